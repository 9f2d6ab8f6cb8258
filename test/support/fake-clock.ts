import type { Clock, ClockTimer } from '../../lib/internal/clock.js';

interface FakeTimer extends ClockTimer {
  readonly dueMs: number;
  readonly fire: () => void;
}

/** Lets everything that is already on its way happen: promises, and what they start. */
export function settle(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** A clock that stands still until a test moves it. */
export class FakeClock implements Clock {
  private currentMs: number;
  private readonly timers = new Set<FakeTimer>();

  /** Starts anywhere but at zero, as `performance.now()` does: code that takes 0 for "never" shows itself. */
  constructor(startMs = 12_345.678) {
    this.currentMs = startMs;
  }

  /** Timers and immediates that have neither fired nor been cancelled. */
  get pendingTimers(): number {
    return this.timers.size;
  }

  /** In how many milliseconds each pending timer fires, soonest first. */
  get pendingDelaysMs(): number[] {
    return [...this.timers].map(({ dueMs }) => dueMs - this.currentMs).sort((a, b) => a - b);
  }

  nowMs(): number {
    return this.currentMs;
  }

  startTimer(fire: () => void, delayMs: number): ClockTimer {
    const timer: FakeTimer = {
      handle: undefined,
      dueMs: this.currentMs + Math.max(delayMs, 0),
      fire,
      cancel: () => this.timers.delete(timer),
    };
    // What stands in a SchedulerRegistry has to be something `clearTimeout` takes.
    Object.assign(timer, { handle: timer });
    this.timers.add(timer);
    return timer;
  }

  startImmediate(fire: () => void): ClockTimer {
    return this.startTimer(fire, 0);
  }

  /** Lets `ms` pass: timers fire in the order they are due, and promises settle after each of them. */
  async advance(ms: number): Promise<void> {
    const endMs = this.currentMs + ms;
    await settle();
    for (let timer = this.firstDue(endMs); timer !== undefined; timer = this.firstDue(endMs)) {
      this.timers.delete(timer);
      this.currentMs = Math.max(this.currentMs, timer.dueMs);
      timer.fire();
      await settle();
    }
    this.currentMs = Math.max(this.currentMs, endMs);
  }

  /** Lets `ms` pass in no time and fires nothing: what a blocked event loop looks like from inside. */
  block(ms: number): void {
    this.currentMs += ms;
  }

  private firstDue(endMs: number): FakeTimer | undefined {
    let first: FakeTimer | undefined;
    for (const timer of this.timers) {
      if (timer.dueMs <= endMs && (first === undefined || timer.dueMs < first.dueMs)) first = timer;
    }
    return first;
  }
}

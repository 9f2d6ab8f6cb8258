import type { Subscription } from 'rxjs';
import type { Clock, ClockTimer } from '../internal/clock.js';
import type { StateManager } from '../managers/state.manager.js';

/** How long after the last look it goes on counting, and what a count is of, in milliseconds. */
const MINUTE_MS = 60_000;
const SECOND_MS = 1_000;
const SECONDS = 60;

/** How many states have expired. */
export interface Expirations {
  /** Within the last minute, as far as they were counted. */
  readonly lastMinute: number;
  /** For how much of that minute they were counted. */
  readonly countedMs: number;
}

/**
 * Counts the states that expire, in this process, while somebody looks.
 *
 * Cost: an event is only built where somebody listens to it, so this one stops listening a minute after the last look.
 */
export class ExpirationMeter {
  private readonly perSecond = Array.from({ length: SECONDS }, () => 0);
  private second = 0;
  private sinceMs = 0;
  private lookedAtMs = 0;
  private listening: Subscription | undefined;
  private timer: ClockTimer | undefined;

  constructor(
    private readonly states: StateManager,
    private readonly clock: Clock,
  ) {}

  look(): Expirations {
    const nowMs = this.clock.nowMs();
    this.lookedAtMs = nowMs;
    if (this.listening === undefined) this.start(nowMs);
    this.turnTo(nowMs);
    return {
      lastMinute: this.perSecond.reduce((sum, count) => sum + count, 0),
      countedMs: Math.min(Math.round(nowMs - this.sinceMs), MINUTE_MS),
    };
  }

  stop(): void {
    this.timer?.cancel();
    this.listening?.unsubscribe();
    this.listening = undefined;
  }

  private start(nowMs: number): void {
    this.perSecond.fill(0);
    this.second = Math.floor(nowMs / SECOND_MS);
    this.sinceMs = nowMs;
    this.listening = this.states.events$.subscribe(({ type, states }) => {
      if (type !== 'expired') return;
      this.turnTo(this.clock.nowMs());
      (this.perSecond[this.second % SECONDS] as number) += states.length;
    });
    this.stopWhenLeft(MINUTE_MS);
  }

  private stopWhenLeft(delayMs: number): void {
    this.timer = this.clock.startTimer(() => {
      const leftMs = this.lookedAtMs + MINUTE_MS - this.clock.nowMs();
      if (leftMs <= 0) this.stop();
      else this.stopWhenLeft(leftMs);
    }, delayMs);
  }

  /** What is older than a minute is forgotten. */
  private turnTo(nowMs: number): void {
    const second = Math.floor(nowMs / SECOND_MS);
    if (second - this.second >= SECONDS) this.perSecond.fill(0);
    else for (let at = this.second + 1; at <= second; at += 1) this.perSecond[at % SECONDS] = 0;
    this.second = second;
  }
}

import { SystemClock, type Clock, type ClockTimer, type TimerUse } from '../internal/clock.js';
import { parseDurationMs, type Duration } from '../internal/duration.js';

/** A timer of the machine that can be made to fire earlier. */
class TestingTimer implements ClockTimer {
  private running: ClockTimer | undefined;

  constructor(
    readonly dueMs: number,
    readonly fire: () => void,
    private readonly use: TimerUse | undefined,
    private readonly onOver: (timer: TestingTimer) => void,
  ) {}

  get handle(): unknown {
    return this.running?.handle;
  }

  /** (Re)starts it, now that so much is left. */
  run(system: Clock, leftMs: number): void {
    this.running?.cancel();
    const fire = (): void => {
      this.onOver(this);
      this.fire();
    };
    this.running = system.startTimer(fire, leftMs, this.use);
  }

  cancel(): void {
    this.running?.cancel();
    this.onOver(this);
  }
}

/**
 * The clock of a `StateTestingModule`: it goes as that of the machine does, until a test puts it forward.
 *
 * It is the time of states and locks alone: `Date`, and timers of the application, do not know of it.
 */
export class StateTestingClock implements Clock {
  private readonly system = new SystemClock();
  private readonly timers = new Set<TestingTimer>();
  private aheadMs = 0;
  private immediates = 0;

  /**
   * Lets that time pass at once. What falls due within it happens in its order: idle states expire, locks that were held
   * too long are lost, callers who wait give up, and their hooks have been called.
   *
   * @throws {RangeError} when `duration` is none.
   */
  async advance(duration: Duration): Promise<void> {
    const ms = parseDurationMs(duration);
    if (ms === undefined) throw new RangeError(`${JSON.stringify(duration)} is not a duration.`);
    await this.settled();
    const endMs = this.nowMs() + ms;
    for (let timer = this.firstDue(endMs); timer !== undefined; timer = this.firstDue(endMs)) {
      timer.cancel();
      this.moveTo(timer.dueMs);
      // Not from here: a test may be inside of a turn, and what a timer does is not.
      this.startImmediate(timer.fire);
      await this.settled();
    }
    this.moveTo(endMs);
    for (const timer of this.timers) timer.run(this.system, timer.dueMs - this.nowMs());
  }

  /** @internal */
  nowMs(): number {
    return this.system.nowMs() + this.aheadMs;
  }

  /** @internal */
  startTimer(fire: () => void, delayMs: number, use?: TimerUse): ClockTimer {
    const timer = new TestingTimer(this.nowMs() + delayMs, fire, use, (over) => this.timers.delete(over));
    this.timers.add(timer);
    timer.run(this.system, delayMs);
    return timer;
  }

  /** @internal */
  startImmediate(fire: () => void): ClockTimer {
    this.immediates += 1;
    let isOver = false;
    const end = (): void => {
      if (!isOver) this.immediates -= 1;
      isOver = true;
    };
    const immediate = this.system.startImmediate(() => {
      end();
      fire();
    });
    return {
      handle: immediate.handle,
      cancel: () => {
        end();
        immediate.cancel();
      },
    };
  }

  /** When all that is on its way has happened: what was put off to the next round of the event loop, and promises. */
  private async settled(): Promise<void> {
    do await new Promise((resolve) => setImmediate(resolve));
    while (this.immediates > 0);
  }

  private moveTo(ms: number): void {
    this.aheadMs += Math.max(ms - this.nowMs(), 0);
  }

  private firstDue(endMs: number): TestingTimer | undefined {
    let first: TestingTimer | undefined;
    for (const timer of this.timers) {
      if (timer.dueMs <= endMs && (first === undefined || timer.dueMs < first.dueMs)) first = timer;
    }
    return first;
  }
}

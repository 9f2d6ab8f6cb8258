import { AsyncResource } from 'node:async_hooks';

/** A timer or immediate that was started through a {@link Clock}. */
export interface ClockTimer {
  /** What `clearTimeout` or `clearImmediate` would take. */
  readonly handle: unknown;
  /** Stops it. Stopping twice, or after it has fired, does nothing. */
  cancel(): void;
}

/**
 * The only way the library reads time or waits for it.
 *
 * Guarantee: monotonic (setting the wall clock moves nothing), keeps Node alive only for who waits, never retains the
 * async context of whoever starts a timer, and takes any delay, also beyond the 2^31-1 ms limit of one `setTimeout`.
 */
export interface Clock {
  /** Milliseconds since an arbitrary fixed point, never going back. */
  nowMs(): number;
  /**
   * Calls `fire` once, not before `delayMs` have passed. Node ends without it, unless it is `awaited`: a process that has
   * nothing else to do would end under a caller who waits for its answer.
   */
  startTimer(fire: () => void, delayMs: number, use?: TimerUse): ClockTimer;
  /** Calls `fire` once, after the I/O that is waiting now. */
  startImmediate(fire: () => void): ClockTimer;
}

/** What a timer is for: housekeeping that goes with its process, or an answer that somebody waits for. */
export type TimerUse = 'housekeeping' | 'awaited';

/** The longest time that a timer of Node can wait, in milliseconds. */
export const LONGEST_TIMEOUT_MS = 2 ** 31 - 1;

class SystemTimer implements ClockTimer {
  handle: NodeJS.Timeout | undefined;
  private readonly dueMs: number;

  constructor(
    private readonly fire: () => void,
    delayMs: number,
    private readonly use: TimerUse,
  ) {
    this.dueMs = performance.now() + delayMs;
    this.sleep(delayMs);
  }

  cancel(): void {
    clearTimeout(this.handle);
  }

  private sleep(remainingMs: number): void {
    const stepMs = Math.min(Math.max(Math.ceil(remainingMs), 0), LONGEST_TIMEOUT_MS);
    this.handle = setTimeout(this.wake, stepMs);
    if (this.use === 'housekeeping') this.handle.unref();
  }

  private readonly wake = (): void => {
    // Node counts whole milliseconds, so its timers may be a fraction of one early.
    const remainingMs = this.dueMs - performance.now();
    if (remainingMs > 0) this.sleep(remainingMs);
    else this.fire();
  };
}

/** The clock of the machine: `performance.now()` and its timers. */
export class SystemClock implements Clock {
  // Timers inherit the async context they are started in. Started from a request they would pin its stores (user,
  // trace, transaction) for hours, so each one starts in the context this clock was created in instead.
  private readonly context = new AsyncResource('StateClock', { requireManualDestroy: true });

  nowMs(): number {
    return performance.now();
  }

  startTimer(fire: () => void, delayMs: number, use: TimerUse = 'housekeeping'): ClockTimer {
    return this.context.runInAsyncScope(() => new SystemTimer(fire, delayMs, use));
  }

  startImmediate(fire: () => void): ClockTimer {
    const handle = this.context.runInAsyncScope(() => setImmediate(fire));
    // Not unref'd: it is over in one loop turn, and an unref'd one could be the half of a sweep that never comes.
    return { handle, cancel: () => clearImmediate(handle) };
  }
}

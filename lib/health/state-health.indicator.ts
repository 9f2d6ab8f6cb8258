import { Inject, Injectable } from '@nestjs/common';
import { LONGEST_TIMEOUT_MS } from '../internal/clock.js';
import { parseDurationMs, type Duration } from '../internal/duration.js';
import { LockingStateManager } from '../managers/locking-state.manager.js';
import type { StateInspection } from '../managers/state-inspection.js';
import { StateManager, type StateManagerMode } from '../managers/state.manager.js';
import { InvalidStateOptionsError, StateStoreUnavailableError } from '../state.errors.js';

/** What is healthy. */
export interface StateHealthThresholds {
  /** The longest that a caller may have waited for a lock by now. @default not judged */
  maxWait?: Duration;
  /** The longest that a lock may have been held by now. @default not judged */
  maxHold?: Duration;
  /** The longest that the store may take to answer. @default '1s' */
  timeout?: Duration;
}

// A type and not an interface: only that is also a record, which is what Terminus asks for.
/** What a health check shows: figures and names of handlers, never an ident. */
export type StateHealth = {
  readonly status: 'up' | 'down';
  readonly mode: StateManagerMode;
  /** Turns of this process that hold their lock. */
  readonly openTurns: number;
  /** Callers of this process that are queued for a lock. */
  readonly waiting: number;
  /** Stored states, where that is known without asking a server. */
  readonly states?: number;
  /** For how long the lock has been held that was taken first, in milliseconds; 0 when none is held. */
  readonly longestHoldMs: number;
  /** Who holds it. */
  readonly longestHold?: string;
  /** How long the caller has waited that waits longest, in milliseconds; 0 when nobody waits. */
  readonly oldestWaitMs: number;
  /** Who that is. */
  readonly oldestWait?: string;
  /** How long the store took to answer, in milliseconds, where it did. */
  readonly storeMs?: number;
  /** What is wrong, where something is. */
  readonly message?: string;
};

const TIMEOUT = '1s';

/**
 * Tells whether states can be had: that the store answers, and that no lock keeps others waiting for too long.
 *
 * A health indicator for `@nestjs/terminus`, and for whoever else asks: it needs nothing of that package. Cost: on Redis
 * one round trip, elsewhere nothing; a look at every lock that this process holds now.
 */
@Injectable()
export class StateHealthIndicator {
  constructor(@Inject(StateManager) private readonly manager: StateManager) {}

  /**
   * The health of the states, under `key`. What is wrong is in the result, and never thrown: `down`, with a message.
   *
   * @throws {InvalidStateOptionsError} when a threshold is not a duration.
   */
  async check<const Key extends string>(
    key: Key,
    thresholds: StateHealthThresholds = {},
  ): Promise<Record<Key, StateHealth>> {
    const maxWaitMs = thresholdMs('maxWait', thresholds.maxWait);
    const maxHoldMs = thresholdMs('maxHold', thresholds.maxHold);
    const timeoutMs = thresholdMs('timeout', thresholds.timeout ?? TIMEOUT);
    const startMs = performance.now();
    const failure = await this.reach(timeoutMs);
    const storeMs = performance.now() - startMs;
    const inspection = this.manager.inspect(1);
    const problems = [failure, ...problemsOf(inspection, maxWaitMs, maxHoldMs)].filter(
      (text) => text !== undefined,
    );
    const health: StateHealth = {
      status: problems.length === 0 ? 'up' : 'down',
      ...figuresOf(inspection),
      ...(failure === undefined && { storeMs: rounded(storeMs) }),
      ...(problems.length > 0 && { message: problems.join(' ') }),
    };
    return { [key]: health } as Record<Key, StateHealth>;
  }

  /** What keeps the store from being used, if anything does. */
  private async reach(timeoutMs: number): Promise<string | undefined> {
    // What a test has put in its place has no store.
    if (!(this.manager instanceof LockingStateManager)) return undefined;
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      const error = new StateStoreUnavailableError(`The store did not answer within ${timeoutMs} ms.`);
      timer = setTimeout(() => reject(error), Math.min(timeoutMs, LONGEST_TIMEOUT_MS));
    });
    try {
      await Promise.race([this.manager.reachStore(), late]);
      return undefined;
    } catch (error) {
      return (error as Error).message;
    } finally {
      clearTimeout(timer);
    }
  }
}

function thresholdMs(name: string, duration: Duration | undefined): number {
  const ms = duration === undefined ? Infinity : parseDurationMs(duration);
  if (ms !== undefined) return ms;
  throw new InvalidStateOptionsError([`${name}: ${JSON.stringify(duration)} is not a duration.`]);
}

function problemsOf(
  { longestHoldMs, oldestWaitMs, oldestWaiter, turns }: StateInspection,
  maxWaitMs: number,
  maxHoldMs: number,
): string[] {
  const problems: string[] = [];
  if (longestHoldMs > maxHoldMs)
    problems.push(
      `${turns[0]?.label} has held its lock for ${Math.round(longestHoldMs)} ms, more than ${maxHoldMs} ms.`,
    );
  if (oldestWaitMs > maxWaitMs)
    problems.push(
      `${oldestWaiter?.label} has waited for its lock for ${Math.round(oldestWaitMs)} ms, more than ${maxWaitMs} ms.`,
    );
  return problems;
}

function figuresOf({
  mode,
  openTurns,
  waiting,
  states,
  turns,
  longestHoldMs,
  oldestWaiter,
  oldestWaitMs,
}: StateInspection): Omit<StateHealth, 'status'> {
  return {
    mode,
    openTurns,
    waiting,
    ...(states !== undefined && { states }),
    longestHoldMs: rounded(longestHoldMs),
    ...(turns[0] !== undefined && { longestHold: turns[0].label }),
    oldestWaitMs: rounded(oldestWaitMs),
    ...(oldestWaiter !== undefined && { oldestWait: oldestWaiter.label }),
  };
}

function rounded(ms: number): number {
  return Math.round(ms * 10) / 10;
}

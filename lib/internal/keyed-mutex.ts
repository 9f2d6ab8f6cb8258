import { setMaxListeners } from 'node:events';
import type { Clock, ClockTimer } from './clock.js';

/** How a wait for a lock ended. */
export type WaitOutcome = 'acquired' | 'timed-out' | 'aborted' | 'cancelled';

export interface WaitOptions {
  /** Longest wait in milliseconds. */
  timeoutMs: number;
  /** Aborting it leaves the queue at once. */
  signal?: AbortSignal | undefined;
}

interface Waiter {
  owner: object;
  settle(outcome: WaitOutcome): void;
  fail(error: unknown): void;
  previous: Waiter | undefined;
  next: Waiter | undefined;
}

interface Lock {
  owner: object;
  first: Waiter | undefined;
  last: Waiter | undefined;
  waiting: number;
}

/**
 * One lock for each key, first in, first out, within this process.
 *
 * Guarantee: one owner at a time; a release hands the lock to the longest waiter in the same tick, or leaves no entry
 * at all; a waiter that timed out or was aborted is out of the queue before its promise settles, so it can never be
 * handed a lock it no longer wants. Cost: one entry per held key; a free key costs nothing.
 */
export class KeyedMutex {
  // Not a Map: one that is empty most of the time builds its table anew with each entry that goes, which costs more than
  // all the rest of a lock. Without a prototype every string is a key like any other, `__proto__` too.
  private readonly locks = Object.create(null) as Record<string, Lock>;
  private heldCount = 0;
  private waitingCount = 0;

  constructor(private readonly clock: Clock) {}

  /** How many keys are locked. */
  get held(): number {
    return this.heldCount;
  }

  /** How many callers wait, over all keys. */
  get waiting(): number {
    return this.waitingCount;
  }

  /** How many callers wait for `key`. */
  waitingFor(key: string): number {
    return this.locks[key]?.waiting ?? 0;
  }

  /** Who holds `key`. */
  ownerOf(key: string): object | undefined {
    return this.locks[key]?.owner;
  }

  /** Of each key who holds it, and who has waited longest for it. Cost: a look at every locked key. */
  *foremost(): Generator<object, void, undefined> {
    for (const { owner, first } of Object.values(this.locks)) {
      yield owner;
      if (first !== undefined) yield first.owner;
    }
  }

  /** Takes `key` for `owner` if it is free. Never waits, never overtakes: a key with waiters is not free. */
  tryAcquire(key: string, owner: object): boolean {
    if (this.locks[key] !== undefined) return false;
    this.locks[key] = { owner, first: undefined, last: undefined, waiting: 0 };
    this.heldCount += 1;
    return true;
  }

  /** Queues for `key`, which is held. Resolves with how the wait ended; `owner` holds the key only if `acquired`. */
  wait(key: string, owner: object, { timeoutMs, signal }: WaitOptions): Promise<WaitOutcome> {
    const lock = this.locks[key];
    if (lock === undefined) throw new Error('KeyedMutex.wait() is for a key that is held.');
    if (signal?.aborted) return Promise.resolve('aborted');
    // Eleven callers who wait with one signal, that of a shutdown say, are no leak: Node is told so. Before anything is
    // queued, and without asking for the limit first: on Node 20 that throws when it is 0 already.
    if (signal !== undefined) setMaxListeners(0, signal);
    return new Promise((resolve, reject) => {
      let timer: ClockTimer | undefined = undefined;
      const leave = (outcome: WaitOutcome) => {
        this.unlink(lock, waiter);
        waiter.settle(outcome);
      };
      const abort = () => leave('aborted');
      const stop = () => {
        timer?.cancel();
        signal?.removeEventListener('abort', abort);
      };
      const waiter: Waiter = {
        owner,
        previous: lock.last,
        next: undefined,
        settle: (outcome) => {
          stop();
          resolve(outcome);
        },
        fail: (error) => {
          stop();
          reject(error);
        },
      };
      if (lock.last === undefined) lock.first = waiter;
      else lock.last.next = waiter;
      lock.last = waiter;
      lock.waiting += 1;
      this.waitingCount += 1;
      signal?.addEventListener('abort', abort, { once: true });
      timer = this.clock.startTimer(() => leave('timed-out'), timeoutMs, 'awaited');
    });
  }

  /** Frees `key` if `owner` holds it, handing it to the first waiter. False when somebody else, or nobody, holds it. */
  release(key: string, owner: object): boolean {
    const lock = this.locks[key];
    if (lock?.owner !== owner) return false;
    const waiter = lock.first;
    if (waiter === undefined) {
      delete this.locks[key];
      this.heldCount -= 1;
    } else {
      this.unlink(lock, waiter);
      lock.owner = waiter.owner;
      waiter.settle('acquired');
    }
    return true;
  }

  /** Sends whoever waits for `key` away: their waits reject with `error`. Who holds it keeps it. */
  failWaiters(key: string, error: unknown): void {
    const lock = this.locks[key];
    if (lock !== undefined) this.dismiss(lock, (waiter) => waiter.fail(error));
  }

  /** Sends every waiter away with `cancelled`; who holds a key keeps it. */
  cancelWaiters(): void {
    for (const lock of Object.values(this.locks)) this.dismiss(lock, (waiter) => waiter.settle('cancelled'));
  }

  private dismiss(lock: Lock, tell: (waiter: Waiter) => void): void {
    for (let waiter = lock.first; waiter !== undefined; waiter = lock.first) {
      this.unlink(lock, waiter);
      tell(waiter);
    }
  }

  private unlink(lock: Lock, waiter: Waiter): void {
    if (waiter.previous === undefined) lock.first = waiter.next;
    else waiter.previous.next = waiter.next;
    if (waiter.next === undefined) lock.last = waiter.previous;
    else waiter.next.previous = waiter.previous;
    lock.waiting -= 1;
    this.waitingCount -= 1;
  }
}

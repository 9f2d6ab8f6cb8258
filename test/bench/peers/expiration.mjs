// Ways to notice that something has been idle for its time. Each keeps `states` by ident, lets a use restart the time of
// one, and forgets those whose time is over when it wakes.
import { setTimeout as delay } from 'node:timers/promises';
import { LRUCache } from 'lru-cache';
import TinyQueue from 'tinyqueue';
import { DeadlineQueue } from '../../../dist/internal/deadline-queue.js';
import { DeadlineWorker } from '../../../dist/internal/deadline-worker.js';
import { defineState } from '../../../dist/internal/state-definition.js';
import { MemoryEntry } from '../../../dist/managers/memory/memory-entry.js';

/** A state, declared without the framework: a process that has nothing else to do is there sooner. */
export class IdleState {
  count = 0;
  name = 'Ada Lovelace';
  seenAtMs = 0;
}
const IDLE = { cls: IdleState, name: 'idle', version: 1, migrate: undefined };
defineState(IDLE);

/** Long enough that nothing falls due by itself while touches are measured. */
export const WINDOW_MS = 3_600_000;

/**
 * @typedef {object} Expiration
 * @property {(ident: string, state: object) => void} add
 * @property {(ident: string) => void} touch
 * @property {() => number[]} wake Forgets what is due; the milliseconds for which it kept the event loop, piece by piece.
 * @property {() => number} size
 */

/** A clock that can be set ahead, so that nobody has to wait for an hour. */
export class MovedClock {
  aheadMs = 0;

  now = () => performance.now() + this.aheadMs;
}

/** The entries, the queue and the worker of the memory manager. @returns {Expiration} */
function ownQueue(clock) {
  const entries = new Map();
  const queue = new DeadlineQueue();
  let fire;
  const immediates = [];
  const timer = { handle: undefined, cancel: () => undefined };
  const worker = new DeadlineWorker(queue, {
    clock: {
      nowMs: clock.now,
      startTimer: (run) => {
        fire = run;
        return timer;
      },
      startImmediate: (run) => {
        immediates.push(run);
        return timer;
      },
    },
    onDue: (entry) => entries.delete(entry.ident),
    onError: (error) => {
      throw error;
    },
  });
  worker.start();
  const touch = (entry) => {
    queue.push(entry, clock.now() + WINDOW_MS);
    worker.wakeInTime();
  };
  return {
    add(ident, state) {
      const entry = new MemoryEntry(ident, IDLE, { value: state, binary: false, deep: false });
      entries.set(ident, entry);
      touch(entry);
    },
    touch: (ident) => touch(entries.get(ident)),
    wake() {
      const blockedMs = [timed(fire)];
      // The worker lets waiting I/O go first and then goes on.
      while (immediates.length > 0) blockedMs.push(timed(immediates.shift()));
      return blockedMs;
    },
    size: () => entries.size,
  };
}

/** Looks at all of them each time. @returns {Expiration} */
function scanAll(clock) {
  const entries = new Map();
  return {
    add: (ident, state) => entries.set(ident, { state, deadlineMs: clock.now() + WINDOW_MS }),
    touch(ident) {
      entries.get(ident).deadlineMs = clock.now() + WINDOW_MS;
    },
    wake: () => [
      timed(() => {
        const nowMs = clock.now();
        for (const [ident, { deadlineMs }] of entries) if (deadlineMs <= nowMs) entries.delete(ident);
      }),
    ],
    size: () => entries.size,
  };
}

/**
 * A heap in which a use leaves the place of before as a tombstone; rebuilt when there are more tombstones than entries.
 *
 * @returns {Expiration}
 */
function heapWithTombstones(clock) {
  const entries = new Map();
  let heap = new TinyQueue([], earlier);
  const push = (entry) => {
    entry.deadlineMs = clock.now() + WINDOW_MS;
    heap.push({ entry, deadlineMs: entry.deadlineMs });
    if (heap.length > 2 * entries.size + 64) heap = new TinyQueue(heap.data.filter(isLive), earlier);
  };
  return {
    add(ident, state) {
      const entry = { ident, state, deadlineMs: 0 };
      entries.set(ident, entry);
      push(entry);
    },
    touch: (ident) => push(entries.get(ident)),
    wake: () => [
      timed(() => {
        const nowMs = clock.now();
        while (heap.length > 0 && heap.peek().deadlineMs <= nowMs) {
          const place = heap.pop();
          if (!isLive(place)) continue;
          place.entry.deadlineMs = -1;
          entries.delete(place.entry.ident);
        }
      }),
    ],
    size: () => entries.size,
  };
}

/** @returns {Expiration} */
function lruCache(clock, max) {
  const cache = new LRUCache({ max, ttl: WINDOW_MS, updateAgeOnGet: true, perf: clock });
  return {
    add: (ident, state) => cache.set(ident, state),
    touch: (ident) => void cache.get(ident),
    wake: () => [timed(() => cache.purgeStale())],
    size: () => cache.size,
  };
}

/** How long timers run that are to fire. */
const SOON_MS = 500;

/**
 * A timer for each. Node runs all that are due in one go when it comes to them, so there is nothing to call:
 * `expireSoon` lets those of some idents fire, and tells how long that kept the event loop.
 *
 * @returns {Expiration}
 */
function timerEach() {
  const entries = new Map();
  const expire = (ident) => entries.delete(ident);
  return {
    add: (ident, state) => entries.set(ident, { state, timer: setTimeout(expire, WINDOW_MS, ident).unref() }),
    touch: (ident) => void entries.get(ident).timer.refresh(),
    async expireSoon(idents) {
      const fired = [];
      const expireTimed = (ident) => {
        fired.push(performance.now());
        expire(ident);
      };
      const startMs = performance.now();
      for (const ident of idents) {
        const entry = entries.get(ident);
        clearTimeout(entry.timer);
        entry.timer = setTimeout(expireTimed, SOON_MS, ident).unref();
      }
      const allDueMs = performance.now() + SOON_MS + 2;
      await delay(startMs + SOON_MS - performance.now() - 10);
      // They were started over some milliseconds, and would fire so: the loop is held until all of them are due.
      while (performance.now() < allDueMs);
      while (fired.length < idents.length) await delay(1);
      return fired.at(-1) - fired[0];
    },
    size: () => entries.size,
  };
}

function earlier(one, other) {
  return one.deadlineMs - other.deadlineMs;
}

/** Whether a place in the heap is no tombstone. */
function isLive({ entry, deadlineMs }) {
  return entry.deadlineMs === deadlineMs;
}

function timed(work) {
  const startMs = performance.now();
  work();
  return performance.now() - startMs;
}

export const EXPIRATIONS = {
  'nestjs-state': ownQueue,
  'scan of all': scanAll,
  'heap with tombstones': heapWithTombstones,
  'lru-cache ttl + purgeStale': lruCache,
  'one timer for each': timerEach,
};

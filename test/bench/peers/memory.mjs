// What a user would write without this library to keep states in one process. Each keeps one state for each ident and
// starts its time anew with each use.
import { Mutex } from 'async-mutex';
import { createCache } from 'cache-manager';
import session from 'express-session';
import { LRUCache } from 'lru-cache';

const HOUR_MS = 3_600_000;

/**
 * @typedef {object} MemoryPeer
 * @property {(ident: string, mutate: (state: object) => unknown) => Promise<void>} modify
 * @property {(ident: string) => object | Promise<object>} read
 */

/**
 * The floor: a Map and the least that is a lock. No rollback, no immutable reads, no expiration, no timeout.
 *
 * @returns {MemoryPeer}
 */
export function floor(fresh) {
  const states = new Map();
  const locks = new Map();
  const stateOf = (ident) => {
    let state = states.get(ident);
    if (state === undefined) states.set(ident, (state = fresh()));
    return state;
  };
  return {
    async modify(ident, mutate) {
      let waiting = locks.get(ident);
      if (waiting === undefined) locks.set(ident, (waiting = []));
      else await new Promise((resolve) => waiting.push(resolve));
      try {
        const done = mutate(stateOf(ident));
        if (done instanceof Promise) await done;
      } finally {
        const next = waiting.shift();
        if (next === undefined) locks.delete(ident);
        else next();
      }
    },
    read: stateOf,
  };
}

/**
 * A mutex and the state in one entry of an LRU cache with a ttl: the mutex goes when the state goes. No rollback unless
 * `copy` is given, which makes what `mutate` gets; no immutable reads.
 *
 * @returns {MemoryPeer}
 */
export function mutexAndLru(fresh, max, copy) {
  const cache = new LRUCache({ max, ttl: HOUR_MS, updateAgeOnGet: true });
  const entryOf = (ident) => {
    let entry = cache.get(ident);
    if (entry === undefined) cache.set(ident, (entry = { mutex: new Mutex(), state: fresh() }));
    return entry;
  };
  return {
    async modify(ident, mutate) {
      const entry = entryOf(ident);
      await entry.mutex.runExclusive(async () => {
        const state = copy === undefined ? entry.state : copy(entry.state);
        const done = mutate(state);
        if (done instanceof Promise) await done;
        entry.state = state;
        // The ttl counts from the end of the turn.
        cache.set(ident, entry);
      });
    },
    read: (ident) => entryOf(ident).state,
  };
}

/**
 * Mutexes in a Map, states in cache-manager, which copies them by way of JSON.
 *
 * @returns {MemoryPeer}
 */
export function mutexAndCacheManager(fresh) {
  const cache = createCache({ ttl: HOUR_MS });
  const mutexes = new Map();
  const read = async (ident) => (await cache.get(ident)) ?? fresh();
  return {
    async modify(ident, mutate) {
      let mutex = mutexes.get(ident);
      if (mutex === undefined) mutexes.set(ident, (mutex = new Mutex()));
      await mutex.runExclusive(async () => {
        const state = await read(ident);
        const done = mutate(state);
        if (done instanceof Promise) await done;
        await cache.set(ident, state);
      });
    },
    read,
  };
}

/**
 * The store that express-session uses unless told otherwise: copies by way of JSON, and no lock.
 *
 * @returns {MemoryPeer}
 */
export function memoryStore(fresh) {
  const store = new session.MemoryStore();
  const read = (ident) =>
    new Promise((resolve, reject) => {
      store.get(ident, (error, found) =>
        error ? reject(error) : resolve(found ?? { cookie: {}, ...fresh() }),
      );
    });
  const write = (ident, state) =>
    new Promise((resolve, reject) => {
      store.set(ident, state, (error) => (error ? reject(error) : resolve()));
    });
  return {
    async modify(ident, mutate) {
      const state = await read(ident);
      const done = mutate(state);
      if (done instanceof Promise) await done;
      state.cookie.expires = new Date(Date.now() + HOUR_MS);
      await write(ident, state);
    },
    read,
  };
}

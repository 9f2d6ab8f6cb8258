// What a user would write without this library to keep states on Redis.
import { createHash } from 'node:crypto';
import Redlock from 'redlock';

const LOCK_MS = 10_000;
const WINDOW_MS = 3_600_000;

/**
 * @typedef {object} RedisPeer
 * @property {(ident: string, mutate: (state: object) => void) => Promise<void>} modify
 * @property {(ident: string) => Promise<object>} read
 */

/** Takes a lock if it is free and loads a state. KEYS lock, state; ARGV owner, ms the lock lives. */
const ACQUIRE = script(`
if not redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return 0 end
return redis.call('GET', KEYS[2])`);

/** Writes a state and frees the lock, if it is still the caller's. KEYS lock, state; ARGV owner, state, ms it lives. */
const FINISH = `
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
redis.call('DEL', KEYS[1])`;
const FREE = script(`${FINISH}
return 1`);
/** The same, and says so. ARGV channel. */
const FREE_AND_PUBLISH = script(`${FINISH}
redis.call('PUBLISH', ARGV[4], KEYS[1])
return 1`);

function script(lua) {
  return { lua, sha: createHash('sha1').update(lua).digest('hex') };
}

let owners = 0;
/** Unguessable it need not be here, only its own. */
function newOwner() {
  owners += 1;
  return `${process.pid}:${owners}`;
}

/**
 * The floor: two scripts and nothing around them. Nobody waits, nothing is renewed, no call has a limit.
 *
 * @returns {Promise<RedisPeer>}
 */
export async function twoScripts(client, prefix, fresh) {
  for (const { lua } of [ACQUIRE, FREE]) await client.script('LOAD', lua);
  return {
    async modify(ident, mutate) {
      const key = `${prefix}{${ident}}`;
      const lock = `${key}:lock`;
      const owner = newOwner();
      const found = await client.evalsha(ACQUIRE.sha, 2, lock, key, owner, LOCK_MS);
      if (found === 0) throw new Error('Somebody else has the lock.');
      const state = found === null ? fresh() : JSON.parse(found);
      mutate(state);
      const stored = await client.evalsha(FREE.sha, 2, lock, key, owner, JSON.stringify(state), WINDOW_MS);
      if (stored !== 1) throw new Error('The lock is lost.');
    },
    read: readJson(client, prefix, fresh),
  };
}

/**
 * Each step a command of its own: take the lock, load, see that it is still ours and for how long, store, free it.
 *
 * @returns {RedisPeer}
 */
export function sixCommands(client, prefix, fresh) {
  return {
    async modify(ident, mutate) {
      const key = `${prefix}{${ident}}`;
      const lock = `${key}:lock`;
      const owner = newOwner();
      if ((await client.set(lock, owner, 'PX', LOCK_MS, 'NX')) === null)
        throw new Error('Somebody else has the lock.');
      const found = await client.get(key);
      const state = found === null ? fresh() : JSON.parse(found);
      mutate(state);
      const holder = await client.get(lock);
      const leftMs = await client.pttl(lock);
      if (holder !== owner || leftMs <= 0) throw new Error('The lock is lost.');
      await client.set(key, JSON.stringify(state), 'PX', WINDOW_MS);
      if ((await client.getdel(lock)) !== owner) throw new Error('The lock was lost.');
    },
    read: readJson(client, prefix, fresh),
  };
}

/**
 * redlock around GET and SET, as it is, except that it never gives up.
 *
 * @returns {RedisPeer}
 */
export function redlock(client, prefix, fresh) {
  const locks = new Redlock([client], { retryCount: -1 });
  return {
    async modify(ident, mutate) {
      const key = `${prefix}{${ident}}`;
      const lock = await locks.lock(`${key}:lock`, LOCK_MS);
      try {
        const found = await client.get(key);
        const state = found === null ? fresh() : JSON.parse(found);
        mutate(state);
        await client.set(key, JSON.stringify(state), 'PX', WINDOW_MS);
      } finally {
        await lock.unlock();
      }
    },
    read: readJson(client, prefix, fresh),
  };
}

/**
 * A session store, and no lock.
 *
 * @param {import('express-session').Store} store
 * @returns {RedisPeer}
 */
export function sessionStore(store, prefix, fresh) {
  const read = (ident) =>
    new Promise((resolve, reject) => {
      store.get(prefix + ident, (error, found) => (error ? reject(error) : resolve(found ?? fresh())));
    });
  const write = (ident, state) =>
    new Promise((resolve, reject) => {
      store.set(prefix + ident, state, (error) => (error ? reject(error) : resolve()));
    });
  return {
    async modify(ident, mutate) {
      const state = await read(ident);
      mutate(state);
      await write(ident, state);
    },
    read,
  };
}

/**
 * Waiting done well, with one commit for each turn: callers of one process queue first in, first out, and only the first
 * of them asks Redis; who frees the lock says so on a channel, and a look of one's own makes up for a lost message.
 *
 * @returns {Promise<RedisPeer & { close(): void }>}
 */
export async function wakeUps(client, subscriber, prefix, fresh) {
  for (const { lua } of [ACQUIRE, FREE_AND_PUBLISH]) await client.script('LOAD', lua);
  const channel = `${prefix}freed`;
  /** What ends the wait of the first caller, by lock. */
  const waiting = new Map();
  /** Who queues behind the first caller, by lock. */
  const queues = new Map();
  subscriber.on('message', (_channel, lock) => waiting.get(lock)?.());
  await subscriber.subscribe(channel);

  const acquire = async (lock, key, owner) => {
    for (;;) {
      // Before the question: the message may come before the answer.
      let wake;
      const woken = new Promise((resolve) => (wake = resolve));
      waiting.set(lock, wake);
      const found = await client.evalsha(ACQUIRE.sha, 2, lock, key, owner, LOCK_MS);
      if (found === 0) {
        const timer = setTimeout(wake, 1_000);
        await woken;
        clearTimeout(timer);
      }
      waiting.delete(lock);
      if (found !== 0) return found;
    }
  };
  return {
    async modify(ident, mutate) {
      const key = `${prefix}{${ident}}`;
      const lock = `${key}:lock`;
      let queue = queues.get(lock);
      if (queue === undefined) queues.set(lock, (queue = []));
      else await new Promise((resolve) => queue.push(resolve));
      try {
        const owner = newOwner();
        const found = await acquire(lock, key, owner);
        const state = found === null ? fresh() : JSON.parse(found);
        mutate(state);
        const args = [owner, JSON.stringify(state), WINDOW_MS, channel];
        const stored = await client.evalsha(FREE_AND_PUBLISH.sha, 2, lock, key, ...args);
        if (stored !== 1) throw new Error('The lock is lost.');
      } finally {
        const next = queue.shift();
        if (next === undefined) queues.delete(lock);
        else next();
      }
    },
    read: readJson(client, prefix, fresh),
  };
}

function readJson(client, prefix, fresh) {
  return async (ident) => {
    const found = await client.get(`${prefix}{${ident}}`);
    return found === null ? fresh() : JSON.parse(found);
  };
}

import { StateToken } from 'nestjs-state';
import { compare, effort } from '../harness.mjs';
import { memoryStore, mutexAndLru } from '../peers/memory.mjs';
import { twoScripts } from '../peers/redis.mjs';
import { atLeast, atMost, comparison, gainOf, ratio } from '../support/report.mjs';
import { basketOf, BasketState, openStates, visit } from '../support/states.mjs';

const SIZES = { '1 kB': 1_000, '20 kB': 20_000, '200 kB': 200_000 };
const IDENT = 'somebody';
const TOKEN = new StateToken(IDENT, BasketState);

const CLONE = 'async-mutex + lru-cache + structuredClone';
const FLOOR = 'floor: two EVALSHA with JSON, same connection';

export const title = 'State size: one field of a state is changed';

export async function run({ isQuick, redis }) {
  const { sliceMs, ...rest } = effort(isQuick);
  // Fewer turns fit into a slice here, and more cases into the job.
  const effortOfRun = { ...rest, sliceMs: Math.max(100, sliceMs / 2), warmUpMs: rest.warmUpMs / 2 };
  const tables = [];
  const outcomes = {};
  for (const [size, bytes] of Object.entries(SIZES)) {
    outcomes[size] = await measureMemory(bytes, effortOfRun);
    tables.push(comparison(outcomes[size], { title: `in memory, ${size} as JSON` }));
  }
  for (const [size, bytes] of Object.entries(SIZES)) {
    const onRedis = await measureRedis(redis, bytes, effortOfRun);
    tables.push(comparison(onRedis, { title: `on Redis, ${size} as JSON` }));
  }
  const [small, , large] = Object.keys(SIZES);
  const growth = (index) => outcomes[small][index].perSecond / outcomes[large][index].perSecond;
  return {
    tables,
    goals: [
      atLeast(`${large} in memory, over a copy of all of it`, gainOf(outcomes[large], CLONE), 10),
      atMost(`a field of the state itself: time at ${large} over time at ${small}`, growth(0), 2),
    ],
    notes: [
      `A field of one of its items: time at ${large} over time at ${small} is ${ratio(growth(1))}, for ${Math.round(SIZES[large] / SIZES[small])} times the items.`,
    ],
  };
}

/** A field in the middle of the state. */
function takeAnother(state) {
  state.count += 1;
  state.items[state.items.length >> 1].quantity += 1;
}

async function measureMemory(bytes, effortOfRun) {
  const { states, close } = await openStates({ mode: 'memory' });
  // One manager more, so that each variant has its own state.
  const other = await openStates({ mode: 'memory' });
  await states.setState(TOKEN, basketOf(bytes));
  await other.states.setState(TOKEN, basketOf(bytes));
  const fresh = () => ({ ...basketOf(bytes) });
  try {
    return await compare(
      [
        own('nestjs-state', states, visit),
        own('nestjs-state, a field of an item', other.states, takeAnother),
        peer('async-mutex + lru-cache, no rollback', mutexAndLru(fresh, 1), visit),
        peer(CLONE, mutexAndLru(fresh, 1, structuredClone), visit),
        peer('express-session MemoryStore, unlocked', memoryStore(fresh), visit),
      ],
      effortOfRun,
    );
  } finally {
    await close();
    await other.close();
  }
}

async function measureRedis(redis, bytes, effortOfRun) {
  const client = redis.connect();
  const { states, close } = await openStates({
    mode: 'redis',
    redis: { client, keyPrefix: `basket-${bytes}:` },
  });
  await states.setState(TOKEN, basketOf(bytes));
  const floor = await twoScripts(client, `floor-${bytes}:`, () => ({ ...basketOf(bytes) }));
  try {
    return await compare([own('nestjs-state', states, visit), peer(FLOOR, floor, visit)], effortOfRun);
  } finally {
    await close();
    client.disconnect();
  }
}

function own(name, states, change) {
  return {
    name,
    run: repeated(() => states.modifyState(TOKEN, change)),
    total: async () => (await states.getState(TOKEN)).count,
  };
}

function peer(name, { modify, read }, change) {
  return {
    name,
    run: repeated(() => modify(IDENT, change)),
    total: async () => (await read(IDENT)).count,
  };
}

function repeated(turn) {
  return async (count) => {
    for (let done = 0; done < count; done += 1) await turn();
  };
}

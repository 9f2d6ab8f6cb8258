import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { StateToken, type StateModuleOptions } from 'nestjs-state';
import { newIdent, type OpenManager } from '../conformance/harness.js';
import { CounterState } from '../conformance/states.js';
import { RecordedLogs } from '../support/manager-logs.js';
import { openRedisManager } from '../support/manager-redis.js';
import { RedisCluster } from '../support/redis-cluster.js';
import { RedisSentinelSetup } from '../support/redis-sentinel.js';
import { until } from '../support/redis-server.js';

const managers: OpenManager[] = [];
const setups: AsyncDisposable[] = [];

beforeEach(() => {
  RecordedLogs.start();
});
afterEach(async () => {
  await Promise.all(managers.splice(0).map((manager) => manager.onModuleDestroy()));
  await Promise.all(setups.splice(0).map((setup) => setup[Symbol.asyncDispose]()));
});

async function open(client: object, options: StateModuleOptions = {}): Promise<OpenManager> {
  const manager = await openRedisManager({
    ...options,
    redis: { client, commandTimeout: 500, ...options.redis },
  });
  managers.push(manager);
  return manager;
}

/** Increments, one turn after the other, until told to stop; what is acknowledged, and what is not known. */
async function incrementUntil(
  isOver: () => boolean,
  manager: OpenManager,
  token: StateToken<CounterState>,
  values: number[] = [],
): Promise<{ values: number[]; unknown: number }> {
  let unknown = 0;
  while (!isOver()) {
    try {
      values.push(
        await manager.modifyState(token, (counter) => {
          counter.increment();
          return counter.count;
        }),
      );
    } catch (error) {
      if ((error as { code?: string }).code === 'STATE_STORE_UNAVAILABLE') unknown += 1;
      await delay(10);
    }
  }
  return { values, unknown };
}

describe('Sentinel', () => {
  it('goes on at the new primary after a failover; what that can lose is what the replica did not have yet', async () => {
    const sentinel = await RedisSentinelSetup.start();
    setups.push(sentinel);
    const pair = [await open(sentinel.connect()), await open(sentinel.connect())] as const;
    const tokens = [1, 2, 3, 4].map(() => new StateToken(newIdent(), CounterState));
    let isOver = false;
    const values = tokens.map((): number[] => []);
    const runs = tokens.map((token, index) =>
      incrementUntil(() => isOver, pair[index % 2] as OpenManager, token, values[index]),
    );
    await delay(500);
    await sentinel.failover();
    await delay(2_500);
    await until('all go on', async () => values.every(({ length }) => length > 50), 20_000);
    isOver = true;
    const outcomes = await Promise.all(runs);

    const lost: number[] = [];
    for (const [index, { values: own, unknown }] of outcomes.entries()) {
      const { count } = await pair[0].getState(tokens[index] as StateToken<CounterState>);
      // A value that comes back lower than one before it tells how many acknowledged turns the failover has cost.
      let steps = 0;
      for (let place = 1; place < own.length; place += 1)
        steps += Math.max(0, (own[place - 1] as number) - (own[place] as number) + 1);
      lost.push(steps);
      expect(count).toBeGreaterThanOrEqual(own.at(-1) as number);
      expect(count).toBeLessThanOrEqual(own.length + unknown);
      // Every turn that was acknowledged after the failover is there.
      expect(count).toBeGreaterThanOrEqual(own.length - steps);
    }
    const acknowledged = values.reduce((sum, { length }) => sum + length, 0);
    console.log(
      `Sentinel failover: ${lost.reduce((sum, each) => sum + each, 0)} of ${acknowledged} acknowledged turns lost, ` +
        `${outcomes.reduce((sum, { unknown }) => sum + unknown, 0)} answered as unknown`,
    );
  }, 60_000);
});

describe('a cluster', () => {
  it('serves turns of two processes on idents of all its nodes, and loses none', async () => {
    const cluster = await RedisCluster.start();
    setups.push(cluster);
    const patient: StateModuleOptions = { redis: { commandTimeout: '5s' } };
    const pair = [await open(cluster.connect(), patient), await open(cluster.connect(), patient)] as const;
    const tokens = Array.from({ length: 30 }, () => new StateToken(newIdent(), CounterState));
    await Promise.all(
      tokens.flatMap((token) =>
        Array.from({ length: 20 }, (_, index) =>
          (pair[index % 2] as OpenManager).modifyState(token, async (counter) => {
            const { count } = counter;
            if (index % 5 === 0) await delay(1);
            counter.count = count + 1;
          }),
        ),
      ),
    );

    for (const token of tokens) expect((await pair[1].getState(token)).count).toBe(20);
    expect(await pair[0].count()).toBe(30);
    const used = await Promise.all(cluster.nodes.map((node) => node.keys()));
    for (const keys of used) expect(keys.length).toBeGreaterThan(0);
    expect(used.flat().filter((key) => /:(lock|wait)$/.test(key))).toStrictEqual([]);
  }, 60_000);

  it('goes on after a node was gone for a while, and the others never stop', async () => {
    const cluster = await RedisCluster.start();
    setups.push(cluster);
    const manager = await open(cluster.connect());
    const tokens = Array.from({ length: 30 }, () => new StateToken(newIdent(), CounterState));
    let isOver = false;
    const values = tokens.map((): number[] => []);
    const runs = tokens.map((token, index) => incrementUntil(() => isOver, manager, token, values[index]));
    await delay(300);
    const [node] = cluster.nodes;
    node?.pause();
    // Whatever was under way has failed by then: what goes on is on the other nodes.
    await delay(600);
    const before = values.map(({ length }) => length);
    const goesOn = ({ length }: number[], index: number) => length > (before[index] as number) + 5;
    await until('others go on', async () => values.filter(goesOn).length > 10);
    node?.resume();
    await delay(2_000);
    await until('all go on', async () => values.every(({ length }) => length > 20), 20_000);
    isOver = true;
    const outcomes = await Promise.all(runs);

    for (const [index, { values: own, unknown }] of outcomes.entries()) {
      const { count } = await manager.getState(tokens[index] as StateToken<CounterState>);
      expect(new Set(own).size).toBe(own.length);
      expect(count).toBeGreaterThanOrEqual(own.at(-1) as number);
      expect(count).toBeLessThanOrEqual(own.length + unknown);
    }
  }, 60_000);
});

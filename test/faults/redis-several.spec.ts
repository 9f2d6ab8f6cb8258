import { AsyncResource } from 'node:async_hooks';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it } from '@jest/globals';
import {
  LockExpiredError,
  StateSerializationError,
  StateStoreUnavailableError,
  StateToken,
  type StateEvent,
  type StateManager,
  type StateModuleOptions,
} from 'nestjs-state';
import { hashIdent } from '../../lib/internal/ident.js';
import { RedisKeys } from '../../lib/managers/redis/redis-keys.js';
import { failureOf, newIdent, seededRandom, tick, type OpenManager } from '../conformance/harness.js';
import { BoxState, CounterState } from '../conformance/states.js';
import { openRedisManager } from '../support/manager-redis.js';
import { RedisCluster } from '../support/redis-cluster.js';
import type { ManagerWorker } from '../support/manager-worker.js';
import { AccountState } from '../support/manager-worker.states.js';
import { retried, TestRedis } from '../support/test-redis.js';

const keys = new RedisKeys('state:');
/** Runs what it is given outside of every turn. */
const outside = new AsyncResource('outside');

const store = TestRedis.forFile();

function counters(count: number): StateToken<CounterState>[] {
  const idents = Array.from({ length: count }, newIdent).sort();
  return idents.map((ident) => new StateToken(ident, CounterState));
}

const counts = (manager: StateManager, tokens: readonly StateToken<CounterState>[]) =>
  Promise.all(tokens.map(async (token) => (await manager.getState(token)).count));

const incrementAll = (...states: CounterState[]): void => {
  for (const counter of states) counter.increment();
};

const lockOf = ({ ident }: StateToken<unknown>): string => keys.ofIdent(ident).lock;

const expectNoLocks = async (): Promise<void> => {
  expect(await store.lockKeys()).toStrictEqual([]);
};

describe('a turn over several idents', () => {
  it('takes one script for each lock, and one that stores everything and gives all of them up', async () => {
    const manager = await store.open();
    const tokens = counters(4);
    await manager.modifyStates(tokens, incrementAll);
    const before = await store.scripts();
    await manager.modifyStates(tokens, incrementAll);
    const between = await store.scripts();
    await manager.modifyStates(tokens, (first) => first.increment());

    expect(between - before).toBe(5);
    expect((await store.scripts()) - between).toBe(5);
    await expectNoLocks();
    expect(await counts(manager, tokens)).toStrictEqual([3, 2, 2, 2]);
  });

  const taken: [string, (lock: string) => Promise<unknown>][] = [
    ['deleted', (lock) => store.client.del(lock)],
    ['deleted with everything else', () => store.server.flush()],
    ['somebody else’s', (lock) => store.client.set(lock, 'somebody:1', 'PX', 60_000)],
  ];
  const places = [0, 1, 2];
  it.each(taken.flatMap(([name, take]) => places.map((place) => [name, place, take] as const)))(
    'stores nothing of any when a lock is %s: number %i, whether or not others queue',
    async (name, place, take) => {
      const manager = await store.open();
      const events: StateEvent[] = [];
      manager.events$.subscribe((event) => events.push(event));
      for (const queues of [false, true]) {
        const tokens = counters(3);
        const lost = tokens[place] as StateToken<CounterState>;
        await manager.modifyStates(tokens, incrementAll);
        const waiting: Promise<unknown>[] = [];
        const call = manager.modifyStates(tokens, async (...states) => {
          incrementAll(...states);
          const others = tokens.filter((token) => token !== lost);
          if (queues)
            for (const token of others)
              waiting.push(outside.runInAsyncScope(() => manager.modifyState(token, ({ count }) => count)));
          await tick();
          await take(lockOf(lost));
        });

        expect(await failureOf(call)).toBeInstanceOf(LockExpiredError);
        const kept = name.includes('everything') ? 0 : 1;
        if (name !== 'deleted with everything else')
          expect(await Promise.all(waiting)).toStrictEqual(waiting.map(() => kept));
        else await Promise.allSettled(waiting);
        expect(await counts(manager, tokens)).toStrictEqual([kept, kept, kept]);
        expect(events.filter(({ type }) => type === 'lock-lost').map(({ identHash }) => identHash)).toContain(
          hashIdent(lost.ident),
        );
        await store.client.del(lockOf(lost));
        await delay(20);
        expect(manager.stats()).toMatchObject({ openTurns: 0, waiting: 0 });
        await expectNoLocks();
        await manager.modifyStates(tokens, incrementAll);
        expect(await counts(manager, tokens)).toStrictEqual([kept + 1, kept + 1, kept + 1]);
        events.length = 0;
      }
    },
  );

  it('drags nobody else along when what it would store cannot be written', async () => {
    const manager = await store.open();
    const [a, b] = counters(2) as [StateToken<CounterState>, StateToken<CounterState>];
    let deep: unknown = 'bottom';
    for (let level = 0; level < 900; level += 1) deep = Object.assign(new BoxState(), { value: deep });
    const outcomes = await Promise.allSettled([
      manager.modifyState(a, (counter) => counter.increment()),
      manager.modifyStates([a, b.withClass(BoxState)], (counter, box) => {
        counter.increment();
        box.value = deep;
      }),
      manager.modifyState(b, (counter) => counter.increment()),
      manager.modifyStates([b, a], incrementAll),
    ]);

    expect(outcomes.map(({ status }) => status)).toStrictEqual([
      'fulfilled',
      'rejected',
      'fulfilled',
      'fulfilled',
    ]);
    expect((outcomes[1] as PromiseRejectedResult).reason).toBeInstanceOf(StateSerializationError);
    expect(await counts(manager, [a, b])).toStrictEqual([2, 2]);
    await delay(20);
    await expectNoLocks();
  });

  it('goes on from what turns of one ident have made that are not stored yet, and they from it', async () => {
    const manager = await store.open();
    const tokens = counters(2);
    const random = seededRandom(3);
    const expected = [0, 0];
    const calls = Array.from({ length: 400 }, (_, number) => {
      const kind = Math.floor(random() * 3);
      const named = kind === 2 ? tokens : [tokens[kind] as StateToken<CounterState>];
      for (const token of named) (expected[tokens.indexOf(token)] as number) += 1; // prettier-ignore
      return manager.modifyStates(named, async (...states) => {
        if (number % 7 === 0) await tick();
        incrementAll(...states);
      });
    });
    await Promise.all(calls);

    expect(await counts(manager, tokens)).toStrictEqual(expected);
    await delay(20);
    await expectNoLocks();
  });

  it('under leaseHold is stored when it is answered, with what was acknowledged before', async () => {
    const [manager, other] = [await store.open({ redis: { leaseHold: '10s' } }), await store.open()];
    const tokens = counters(2);
    const [a] = tokens as [StateToken<CounterState>];
    for (let turn = 0; turn < 5; turn += 1) await manager.modifyState(a, (counter) => counter.increment());
    expect((await other.getState(a)).count).toBe(0);
    await manager.modifyStates(tokens, incrementAll);
    expect(await counts(other, tokens)).toStrictEqual([6, 1]);
    const before = await store.scripts();
    await manager.modifyState(a, (counter) => counter.increment());
    await manager.modifyStates(tokens, (...states) => states.map(({ count }) => count));

    expect((await store.scripts()) - before).toBe(0);
    expect(await counts(other, tokens)).toStrictEqual([6, 1]);
    expect(await other.modifyStates(tokens, (...states) => states.map(({ count }) => count))).toStrictEqual([
      7, 1,
    ]);
  });

  it('is stored at shutdown when it is under way then', async () => {
    for (const leaseHold of [0, '10s'] as const) {
      const manager = await store.open({ redis: { leaseHold } });
      const tokens = counters(3);
      const calls = Array.from({ length: 20 }, () => manager.modifyStates(tokens, incrementAll));
      await calls[0];
      const closing = manager.onModuleDestroy();
      const outcomes = await Promise.allSettled(calls);
      await closing;
      const stored = outcomes.filter(({ status }) => status === 'fulfilled').length;

      expect(stored).toBeGreaterThan(0);
      expect(await counts(await store.open(), tokens)).toStrictEqual([stored, stored, stored]);
      await expectNoLocks();
    }
  });

  it('is unknown, and all or nothing, when the server falls silent; then it goes on by itself', async () => {
    const proxy = await store.startProxy();
    const manager = await store.open({ redis: { url: proxy.url, commandTimeout: 600 } });
    const tokens = counters(3);
    await manager.modifyStates(tokens, incrementAll);
    const startMs = performance.now();
    const call = manager.modifyStates(tokens, (...states) => {
      incrementAll(...states);
      proxy.stall();
    });
    expect(await failureOf(call)).toBeInstanceOf(StateStoreUnavailableError);
    expect(performance.now() - startMs).toBeLessThan(1_800);
    expect(manager.stats()).toMatchObject({ openTurns: 0, waiting: 0 });
    proxy.unstall();
    const seen = await manager.modifyStates(tokens, (...states) => states.map(({ count }) => count));

    expect(new Set(seen).size).toBe(1);
    expect([1, 2]).toContain(seen[0]);
    await manager.modifyStates(tokens, incrementAll);
    expect(await counts(manager, tokens)).toStrictEqual(seen.map((count) => count + 1));
  });

  it('is stored once when it is sent twice, because answers are lost with their connections', async () => {
    const proxy = await store.startProxy();
    const two = [
      await store.open({ redis: { url: proxy.url } }),
      await store.open({ redis: { url: proxy.url } }),
    ];
    const tokens = counters(3);
    let [acknowledged, unknown, isOver] = [0, 0, false];
    const hasEnded = (): boolean => isOver;
    const areEnough = (): boolean => acknowledged > 20;
    const tasks = Array.from({ length: 6 }, async (_, task) => {
      while (!hasEnded()) {
        try {
          await (two[task % 2] as OpenManager).modifyStates(tokens, incrementAll);
          acknowledged += 1;
        } catch (error) {
          expect(error).toBeInstanceOf(StateStoreUnavailableError);
          unknown += 1;
        }
      }
    });
    proxy.delayMs = 2;
    // A busy machine gets fewer of them done between two cuts.
    for (let round = 0; round < 25 || (!areEnough() && round < 150); round += 1) {
      await delay(60 + Math.random() * 100);
      proxy.cut();
    }
    isOver = true;
    await Promise.all(tasks);
    const [stored, ...others] = await counts(two[0] as OpenManager, tokens);

    expect(others).toStrictEqual([stored, stored]);
    expect(stored).toBeGreaterThanOrEqual(acknowledged);
    expect(stored).toBeLessThanOrEqual(acknowledged + unknown);
    expect(acknowledged).toBeGreaterThan(20);
  }, 40_000);

  it('keeps the sum of ten accounts over 1,000 transfers of two processes, fast', async () => {
    const two = [await store.open(), await store.open()];
    const accounts = counters(10);
    const random = seededRandom(5);
    await Promise.all(
      Array.from({ length: 8 }, async (_, task) => {
        for (let number = 0; number < 125; number += 1) {
          const pair = [random(), random()].map(
            (at) => accounts[Math.floor(at * 10)] as StateToken<CounterState>,
          );
          await (two[task % 2] as OpenManager).modifyStates(pair, async (from, to) => {
            const amount = Math.floor(random() * 10);
            (from as CounterState).count -= amount;
            if (random() < 0.2) await tick();
            (to as CounterState).count += amount;
          });
        }
      }),
    );
    const all = await counts(two[0] as OpenManager, accounts);

    expect(all.reduce((sum, each) => sum + each, 0)).toBe(0);
    expect(new Set(all).size).toBeGreaterThan(1);
    await delay(20);
    await expectNoLocks();
  });
});

describe('two processes that move amounts between ten accounts', () => {
  it.each([
    ['', {}],
    [' under leaseHold', { leaseHold: 50 }],
  ])(
    'keep their sum at every moment%s while one of them is killed, again and again',
    async (_, redisOptions) => {
      const options: StateModuleOptions = {
        lockExpiration: 600,
        lockWarningThreshold: 500,
        acquireTimeout: '20s',
        redis: redisOptions,
      };
      const manager = await store.open({ ...options, redis: {} });
      const accounts = Array.from({ length: 10 }, () => new StateToken(newIdent(), AccountState));
      const idents = accounts.map(({ ident }) => ident);
      await manager.modifyStates(accounts, (...all) => all.forEach((account) => (account.balance = 100)));
      const sums: number[] = [];
      const look = async (): Promise<number> => {
        const [sum, turns] = await retried(() =>
          manager.modifyStates(accounts, (...all) => [
            all.reduce((total, { balance }) => total + balance, 0),
            all.reduce((total, account) => total + account.turns, 0),
          ]),
        );
        sums.push(sum as number);
        return turns as number;
      };
      const start = async (name: string): Promise<ManagerWorker> => {
        const worker = await store.startWorker(name, options);
        void worker.transfer({ idents, tasks: 4 }).catch(() => undefined);
        return worker;
      };
      await start('steady');
      for (let round = 0; round < 4; round += 1) {
        const victim = await start(`victim${round}`);
        await delay(50 + Math.random() * 150);
        await (round % 2 === 0 ? victim.dieWhileStoring() : victim.kill());
        await look();
      }
      const turns = await look();

      console.log(`${turns} changes of accounts`);
      expect(sums).toStrictEqual(sums.map(() => 1_000));
      expect(turns).toBeGreaterThan(100);
    },
    180_000,
  );
});

describe('on a cluster', () => {
  it('verifies all locks before it stores the first ident', async () => {
    await using cluster = await RedisCluster.start();
    const manager = await openRedisManager({ redis: { client: cluster.connect() } });
    const tokens = counters(6);
    await manager.modifyStates(tokens, incrementAll);
    for (const lost of tokens) {
      const call = manager.modifyStates(tokens, async (...states) => {
        incrementAll(...states);
        await cluster.connect().del(lockOf(lost));
      });
      expect(await failureOf(call)).toBeInstanceOf(LockExpiredError);
      expect(await counts(manager, tokens)).toStrictEqual([1, 1, 1, 1, 1, 1]);
    }
    await manager.modifyStates(tokens, incrementAll);
    expect(await counts(manager, tokens)).toStrictEqual([2, 2, 2, 2, 2, 2]);
    await manager.onModuleDestroy();
  }, 60_000);

  it('says so when only the first idents could be stored, and keeps no lock', async () => {
    await using cluster = await RedisCluster.start();
    const manager = await openRedisManager({ redis: { client: cluster.connect() } });
    const tokens = counters(4);
    await manager.modifyStates(tokens, incrementAll);
    const { commands } = manager;
    const joint = commands.joint.bind(commands);
    let calls = 0;
    // The lock is lost when all have been looked at, and some are stored.
    commands.joint = async (...args) => {
      if ((calls += 1) === 3) await cluster.connect().del(lockOf(tokens[2] as StateToken<CounterState>));
      return joint(...args);
    };
    const error = await failureOf(manager.modifyStates(tokens, incrementAll));

    expect(error).toBeInstanceOf(StateStoreUnavailableError);
    expect((error as Error).message).toContain('Of the 4 idents of a turn 2 are stored');
    expect((error as Error).cause).toBeInstanceOf(LockExpiredError);
    expect(await counts(manager, tokens)).toStrictEqual([2, 2, 1, 1]);
    expect(manager.stats()).toMatchObject({ openTurns: 0, waiting: 0 });
    const keysOfNodes = await Promise.all(cluster.nodes.map((node) => node.keys('*:lock')));
    expect(keysOfNodes.flat()).toStrictEqual([]);
    await manager.onModuleDestroy();
  }, 60_000);
});

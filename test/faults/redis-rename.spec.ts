import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it } from '@jest/globals';
import {
  LockExpiredError,
  StateStoreUnavailableError,
  StateToken,
  type StateManager,
  type StateModuleOptions,
} from 'nestjs-state';
import { RedisKeys } from '../../lib/managers/redis/redis-keys.js';
import { failureOf, newIdent } from '../conformance/harness.js';
import { CartState, CounterState } from '../conformance/states.js';
import { checkLedger } from '../support/ledger.js';
import { openRedisManager } from '../support/manager-redis.js';
import type { ManagerWorker } from '../support/manager-worker.js';
import { AccountState, LedgerState } from '../support/manager-worker.states.js';
import { RedisCluster } from '../support/redis-cluster.js';
import { until } from '../support/redis-server.js';
import { retried, TestRedis } from '../support/test-redis.js';

const keys = new RedisKeys('state:');

const store = TestRedis.forFile();

const pair = (): [StateToken<CounterState>, StateToken<CounterState>] => [
  new StateToken(`a-${newIdent()}`, CounterState),
  new StateToken(`b-${newIdent()}`, CounterState),
];
const countOf = async (manager: StateManager, token: StateToken<CounterState>): Promise<number> =>
  (await manager.getState(token)).count;
const statesOf = ({ ident }: StateToken<unknown>): string => keys.ofIdent(ident).states;
const lockOf = ({ ident }: StateToken<unknown>): string => keys.ofIdent(ident).lock;

describe('renaming on Redis', () => {
  it('takes one script for each lock and one that moves everything, and leaves no key of the old ident', async () => {
    const manager = await store.open();
    const [token, heir] = pair();
    await manager.setState(token, { count: 3 } as CounterState);
    // The server gets to know the scripts.
    await manager.renameState(token.ident, heir.ident);
    await manager.renameState(heir.ident, token.ident);
    const before = await store.scripts();
    await manager.renameState(token.ident, heir.ident);

    expect((await store.scripts()) - before).toBe(3);
    expect(await store.server.keys('*')).toStrictEqual([statesOf(heir)]);
    expect(await store.client.pttl(statesOf(heir))).toBeGreaterThan(3_500_000);
    expect(await countOf(manager, heir)).toBe(3);
  });

  it('moves states of classes that no process knows, to the byte', async () => {
    const manager = await store.open();
    const [token, heir] = pair();
    await manager.setState(token, { count: 3 } as CounterState);
    const foreign = Buffer.from([0xff, 0, 1, 2, 0x80]);
    await store.client.hset(statesOf(token), 'of-a-later-release', foreign);
    await manager.modifyState(token, async (counter) => {
      await manager.renameState(token.ident, heir.ident);
      counter.count += 1;
    });

    expect(await store.client.hgetBuffer(statesOf(heir), 'of-a-later-release')).toStrictEqual(foreign);
    expect(await countOf(manager, heir)).toBe(4);
    expect(await store.client.exists(statesOf(token))).toBe(0);
  });

  it.each([0, 1])('moves nothing when a lock is lost: number %i', async (index) => {
    const manager = await store.open();
    const tokens = pair();
    const [token, heir] = tokens;
    await manager.setState(token, { count: 3 } as CounterState);
    const call = manager.modifyState(token, async (counter) => {
      counter.count = 50;
      await manager.renameState(token.ident, heir.ident);
      await store.client.del(lockOf(tokens[index] as StateToken<CounterState>));
    });

    expect(await failureOf(call)).toBeInstanceOf(LockExpiredError);
    expect([await countOf(manager, token), await countOf(manager, heir)]).toStrictEqual([3, 0]);
    await delay(20);
    expect(await store.server.keys('*:lock')).toStrictEqual([]);
    expect(manager.stats()).toMatchObject({ openTurns: 0, waiting: 0 });
  });

  it('has the states under exactly one ident, whatever becomes of the connection', async () => {
    const proxy = await store.startProxy();
    const manager = await store.open({
      redis: { url: proxy.url, commandTimeout: 500 },
      lockExpiration: 1_500,
    });
    proxy.delayMs = 2;
    let [moved, unknown, isOver] = [0, 0, false];
    const hasEnded = (): boolean => isOver;
    const chains = Array.from({ length: 4 }, async (_, chain) => {
      let token = new StateToken(newIdent(), CounterState);
      for (;;) {
        try {
          await manager.setState(token, { count: chain + 1 } as CounterState);
          await manager.setState(token.withClass(CartState), {
            items: [],
            notes: [],
            total: chain + 1,
          } as CartState);
          break;
        } catch {
          await delay(20);
        }
      }
      while (!hasEnded()) {
        const heir = new StateToken(newIdent(), CounterState);
        try {
          expect(await manager.renameState(token.ident, heir.ident)).toBe(true);
          moved += 1;
          token = heir;
        } catch (error) {
          if (!(error instanceof LockExpiredError)) expect(error).toBeInstanceOf(StateStoreUnavailableError);
          unknown += 1;
          const [old, next] = await Promise.all(
            [token, heir].map((each) => store.client.hlen(statesOf(each))),
          );
          // Two states and the name of the last commit.
          expect([old, next].sort()).toStrictEqual([0, 3]);
          if (next === 3) token = heir;
        }
      }
      return token;
    });
    for (let round = 0; round < 20; round += 1) {
      await delay(60 + Math.random() * 80);
      proxy.cut();
    }
    isOver = true;
    const tokens = await Promise.all(chains);

    console.log(`${moved} moves, ${unknown} of an unknown end`);
    const reader = await store.open();
    expect(await reader.count()).toBe(4);
    expect(await Promise.all(tokens.map((token) => countOf(reader, token)))).toStrictEqual([1, 2, 3, 4]);
    expect(moved).toBeGreaterThan(10);
  }, 40_000);

  it('on a cluster stores the new ident first: what fails then leaves both, and says so', async () => {
    await using cluster = await RedisCluster.start();
    const manager = await openRedisManager({ redis: { client: cluster.connect() } });
    // Whichever of the two is locked first.
    for (const [token, heir] of [pair(), pair().toReversed()] as ReturnType<typeof pair>[]) {
      await manager.setState(token, { count: 3 } as CounterState);
      const { commands } = manager;
      const joint = commands.joint.bind(commands);
      let calls = 0;
      commands.joint = async (...args) => {
        if ((calls += 1) === 2) await cluster.connect().del(lockOf(token));
        return joint(...args);
      };
      const error = await failureOf(manager.renameState(token.ident, heir.ident));
      commands.joint = joint;

      expect(error).toBeInstanceOf(StateStoreUnavailableError);
      expect((error as Error).cause).toBeInstanceOf(LockExpiredError);
      expect([await countOf(manager, token), await countOf(manager, heir)]).toStrictEqual([3, 3]);
      expect(manager.stats()).toMatchObject({ openTurns: 0, waiting: 0 });
    }
    await manager.onModuleDestroy();
  }, 60_000);
});

type Pair = readonly [string, string];

describe('processes that move states between the two idents of each pair', () => {
  it('have them under exactly one of the two, whole, and with all that was acknowledged, when they are killed', async () => {
    const pairs = Array.from({ length: 4 }, (): Pair => [`a-${newIdent()}`, `b-${newIdent()}`]);
    const options: StateModuleOptions = {
      lockExpiration: 600,
      lockWarningThreshold: 500,
      acquireTimeout: '20s',
    };
    const manager = await store.open(options);
    for (const [ident] of pairs) {
      const tokens = [new StateToken(ident, LedgerState), new StateToken(ident, AccountState)] as const;
      await manager.modifyStates(tokens, (ledger, account) => {
        Object.assign(ledger, { count: 1, entries: ['begun'] });
        Object.assign(account, { balance: 1, turns: 1 });
      });
    }
    const workers: ManagerWorker[] = [];
    const start = async (name: string, leaseHold: number): Promise<ManagerWorker> => {
      const worker = await store.startWorker(name, { ...options, redis: { leaseHold } });
      workers.push(worker);
      worker.move(pairs).catch(() => undefined);
      return worker;
    };
    const steady = await start('steady', 0);
    for (let round = 0; round < 6; round += 1) {
      const victim = await start(`victim${round}`, round % 2 === 0 ? 0 : 50);
      await delay(50 + Math.random() * 150);
      await (round % 3 === 0 ? victim.dieWhileStoring() : victim.kill());
      // Waits for the locks of who has died.
      for (const each of pairs) await retried(() => lookAt(manager, each));
    }
    await steady.kill();
    // Nobody asks for them any more: it is their time alone that ends them.
    await until('all locks have run out', async () => (await store.lockKeys()).length === 0, 5_000);

    const records = workers.flatMap((worker) => worker.records);
    let acknowledged = 0;
    for (const each of pairs) {
      expect(await store.client.exists(...each.map((ident) => keys.ofIdent(ident).states))).toBe(1);
      const account = checkLedger(each[0], await lookAt(manager, each), records);
      expect(account.stored).toBeGreaterThanOrEqual(account.acknowledged);
      acknowledged += account.acknowledged;
    }
    const alone = records.filter(({ ident }) => ident.includes(' to '));
    const moved = alone.filter(({ value }) => value === 1);
    const movedInTurns = records.filter(({ id, outcome }) => id.endsWith('/moved') && outcome === 'stored');
    console.log(
      `${acknowledged} turns of ${workers.length} processes; moves: ${moved.length}, ${movedInTurns.length} in turns`,
    );
    expect(acknowledged).toBeGreaterThan(200);
    expect(moved.length).toBeGreaterThan(50);
    expect(movedInTurns.length).toBeGreaterThan(50);
    // A machine that is busy may be too late for a lock, and who finds the states at the other ident is told so.
    const refused = records.filter(({ code = 'STATE_LOCK_EXPIRED' }) => code !== 'STATE_LOCK_EXPIRED');
    expect(refused.filter(({ code }) => code !== 'STATE_IDENT_IN_USE')).toStrictEqual([]);
    expect(refused.filter((record) => !alone.includes(record))).toStrictEqual([]);
    expect(await manager.count()).toBe(pairs.length);
    expect(await store.lockKeys()).toStrictEqual([]);
  }, 120_000);
});

/** What is under the two idents at one moment: all of it under one of them, and nothing under the other. */
function lookAt(manager: StateManager, [a, b]: Pair): Promise<LedgerState> {
  const tokens = [
    new StateToken(a, LedgerState),
    new StateToken(b, LedgerState),
    new StateToken(a, AccountState),
    new StateToken(b, AccountState),
  ] as const;
  return manager.modifyStates(tokens, (ledgerA, ledgerB, accountA, accountB) => {
    const [ledger, account, none, nothing] =
      ledgerA.count > 0 ? [ledgerA, accountA, ledgerB, accountB] : [ledgerB, accountB, ledgerA, accountA];
    expect([none.count, none.entries.length, nothing.balance, nothing.turns]).toStrictEqual([0, 0, 0, 0]);
    const { count } = ledger;
    expect(account).toMatchObject({ turns: count, balance: (count * (count + 1)) / 2 });
    return { count, entries: [...ledger.entries] };
  });
}

import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from '@jest/globals';
import { StateToken, type StateHookReason } from 'nestjs-state';
import type { RedisStateManager } from '../../lib/managers/redis/redis-state.manager.js';
import { CartState, CounterState } from '../conformance/states.js';
import { failureOf, newIdent } from '../conformance/harness.js';
import { TestRedis } from '../support/test-redis.js';

const EXPIRATION_MS = 1_500;

const store = TestRedis.forFile();

type Seen = [process: string, reason: StateHookReason, count: number];

/** Managers as in several processes, all of whose hooks write into one list. */
async function openSeveral(
  names: readonly string[],
  seen: Seen[],
  leaseHold = 0,
): Promise<RedisStateManager[]> {
  const managers = await Promise.all(
    names.map(() =>
      store.open({
        expiration: EXPIRATION_MS,
        redis: { leaseHold },
        maxHold: '5s',
      }),
    ),
  );
  managers.forEach((manager, index) => {
    for (const reason of ['created', 'expired', 'deleted', 'lock-lost'] as const) {
      manager.addHook({
        cls: CounterState,
        reason,
        name: 'Hooks.method',
        call: (state) => seen.push([names[index] as string, reason, (state as CounterState).count]),
      });
    }
  });
  return managers;
}

describe('hooks on a store that is shared', () => {
  it('are called in the process that did it, and for an expiry in the one that used the ident last', async () => {
    const seen: Seen[] = [];
    const [a, b] = (await openSeveral(['a', 'b'], seen)) as [RedisStateManager, RedisStateManager];
    const token = new StateToken(newIdent(), CounterState);
    await a.modifyState(token, (counter) => void (counter.count = 1));
    await sleep(100);
    await b.modifyState(token, (counter) => void (counter.count = 2));
    await sleep(100);
    expect((await a.getState(token)).count).toBe(2);
    await sleep(3 * EXPIRATION_MS);

    expect(seen).toEqual([
      ['a', 'created', 1],
      ['a', 'expired', 2],
    ]);
  });

  it('are called by one of those that used the ident at the same time', async () => {
    const seen: Seen[] = [];
    const managers = await openSeveral(['a', 'b', 'c'], seen);
    const tokens = Array.from({ length: 30 }, () => new StateToken(newIdent(), CounterState));
    await Promise.all(
      tokens.flatMap((token) =>
        managers.map((manager) => manager.modifyState(token, (counter) => counter.increment())),
      ),
    );
    await sleep(3 * EXPIRATION_MS);

    expect(seen.filter(([, reason]) => reason === 'created')).toHaveLength(30);
    const expired = seen.filter(([, reason]) => reason === 'expired');
    expect(expired).toHaveLength(30);
    expect(new Set(expired.map(([, , count]) => count))).toEqual(new Set([3]));
  });

  it('are called although the server is a little late, as clocks of two machines are', async () => {
    const seen: Seen[] = [];
    const [a] = (await openSeveral(['a'], seen)) as [RedisStateManager];
    const token = new StateToken(newIdent(), CounterState);
    await a.modifyState(token, (counter) => counter.increment());
    const [key] = (await store.client.keys('*')) as [string];
    // Counted from what the server has, and not from now: how long the two calls take must not make it later.
    await store.client.pexpireat(key, (await store.client.pexpiretime(key)) + 40);
    await sleep(3 * EXPIRATION_MS);

    expect(seen.map(([, reason]) => reason)).toEqual(['created', 'expired']);
  });

  it('are told by nobody that what a process has deleted, and the first one found gone, has expired', async () => {
    const seen: Seen[] = [];
    const [a, b] = (await openSeveral(['a', 'b'], seen)) as [RedisStateManager, RedisStateManager];
    const token = new StateToken(newIdent(), CounterState);
    await a.modifyState(token, (counter) => void (counter.count = 1));
    await b.deleteState(token.ident);
    expect((await a.getState(token)).count).toBe(0);
    await sleep(2 * EXPIRATION_MS);

    expect(seen).toEqual([
      ['a', 'created', 1],
      ['b', 'deleted', 1],
    ]);
  });

  it('are told with what it began from that a turn, or what leaseHold acknowledged, is lost', async () => {
    for (const leaseHold of [0, 200]) {
      const seen: Seen[] = [];
      const [a] = (await openSeveral(['a'], seen, leaseHold)) as [RedisStateManager];
      const token = new StateToken(newIdent(), CounterState);
      await a.modifyState(token, (counter) => void (counter.count = 1));
      if (leaseHold > 0) {
        await a.modifyState(token, (counter) => void (counter.count = 2));
        await store.server.flush();
      } else {
        const call = a.modifyState(token, async (counter) => {
          counter.count = 2;
          await store.server.flush();
        });
        expect(await failureOf(call)).toMatchObject({ code: 'STATE_LOCK_EXPIRED' });
      }
      await sleep(EXPIRATION_MS);

      expect(seen.filter(([, reason]) => reason === 'lock-lost')).toEqual([
        ['a', 'lock-lost', leaseHold > 0 ? 0 : 1],
      ]);
    }
  });

  it('keep nothing of states that no hook is for, and leave nothing on the server', async () => {
    const seen: Seen[] = [];
    const [a] = (await openSeveral(['a'], seen)) as [RedisStateManager];
    const { expirations } = a as unknown as {
      expirations: { idents: Map<string, { records?: Map<string, unknown> }> };
    };
    await a.modifyState(new StateToken(newIdent(), CartState), (cart) => void (cart.total = 1));
    expect(expirations.idents.size).toBe(0);
    const both = new StateToken(newIdent(), CounterState);
    await a.modifyState(both, async (counter, turn) => {
      counter.increment();
      (await turn.state(CartState)).total = 1;
    });
    expect([...(expirations.idents.get(both.ident)?.records?.keys() ?? [])]).toEqual(['counter']);
    await sleep(3 * EXPIRATION_MS);

    expect(expirations.idents.size).toBe(0);
    expect(await a.count()).toBe(0);
    expect(await store.client.keys('*')).toEqual([]);
  });
});

describe('an expiry', () => {
  const failures: [
    string,
    (manager: RedisStateManager, token: StateToken<CounterState>) => Promise<unknown>,
  ][] = [
    [
      'a caller who left while Redis was asked for the lock',
      async (manager, token) => {
        const leaving = new AbortController();
        const call = failureOf(manager.modifyState(token, () => 1, { signal: leaving.signal }));
        leaving.abort(new Error('gone'));
        return call;
      },
    ],
    [
      'a turn that lost its lock',
      async (manager, token) => {
        const turn = await manager.openTurn(token.ident);
        (await turn.state(CounterState)).count = 2;
        await store.client.del(...(await store.server.keys('*:lock')));
        return failureOf(turn.commit());
      },
    ],
  ];

  it.each(failures)('is told once, with what is stored, also after %s', async (_, fail) => {
    const seen: Seen[] = [];
    const manager = await store.open({ expiration: 600, lockExpiration: 1_200 });
    manager.addHook({
      cls: CounterState,
      reason: 'expired',
      name: 'Hooks.method',
      call: (state) => seen.push(['a', 'expired', (state as CounterState).count]),
    });
    const token = new StateToken(newIdent(), CounterState);
    await manager.modifyState(token, (counter) => void (counter.count = 1));
    await sleep(200);
    await fail(manager, token);
    await sleep(4_000);

    expect(seen).toEqual([['a', 'expired', 1]]);
    expect(await manager.count()).toBe(0);
  });
});

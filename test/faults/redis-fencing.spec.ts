import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it, jest } from '@jest/globals';
import { Logger } from '@nestjs/common';
import { LockExpiredError, StateToken, type StateEvent } from 'nestjs-state';
import { failureOf, Gate, newIdent, until, untilWaiting, type OpenManager } from '../conformance/harness.js';
import { BoxState, CartState, CounterState } from '../conformance/states.js';
import { RecordedLogs } from '../support/manager-logs.js';
import { TestRedis } from '../support/test-redis.js';

const store = TestRedis.forFile();

/** The only key that ends so. */
async function keyOf(part: 'lock' | 'wait'): Promise<string> {
  const [key, ...others] = await store.server.keys(`*:${part}`);
  expect(others).toStrictEqual([]);
  return key as string;
}

async function newCounter(): Promise<StateToken<CounterState>> {
  return new StateToken(newIdent(), CounterState);
}

/** Two managers that wait for each other count in one place. */
async function expectOneCounter(manager: OpenManager, other: OpenManager): Promise<void> {
  const token = await newCounter();
  await Promise.all(
    [manager, other, manager, other].map((each) =>
      each.modifyState(token, async (counter) => {
        await delay(2);
        counter.increment();
      }),
    ),
  );
  expect((await other.getState(token)).count).toBe(4);
  expect(await manager.count()).toBe(1);
}

describe('round trips', () => {
  it('are two scripts for an uncontended turn, and one for a read', async () => {
    const manager = await store.open();
    const tokens = Array.from({ length: 50 }, () => new StateToken(newIdent(), CounterState));
    for (const token of tokens.slice(0, 3))
      await manager.modifyState(token, (counter) => counter.increment());
    // The first call of each script brings its text along.
    await manager.getState(await newCounter());
    const before = await store.scripts();
    for (const token of tokens) await manager.modifyState(token, (counter) => counter.increment());
    const between = await store.scripts();
    for (const token of tokens) await manager.getState(token);

    expect(between - before).toBe(100);
    expect((await store.scripts()) - between).toBe(50);
  });

  it('write no state when the turn has changed nothing, and are two also when it fails', async () => {
    const manager = await store.open();
    const token = await newCounter();
    await manager.modifyState(token, (counter) => counter.increment());
    const writes = await store.server.commandCalls('hset');
    const before = await store.scripts();
    await manager.modifyState(token, (counter) => counter.count);
    await failureOf(manager.modifyState(token, () => Promise.reject(new Error('refused'))));

    expect(await store.server.commandCalls('hset')).toBe(writes);
    expect((await store.scripts()) - before).toBe(4);
  });

  it('are at most five scripts for 500 turns under leaseHold, and nothing of them is lost', async () => {
    const manager = await store.open({ redis: { leaseHold: '10s' } });
    const token = await newCounter();
    const before = await store.scripts();
    for (let turn = 1; turn <= 500; turn += 1) {
      expect(await manager.modifyState(token, (counter) => { counter.increment(); return counter.count; })).toBe(turn); // prettier-ignore
    }
    expect((await manager.getState(token)).count).toBe(500);
    await manager.onModuleDestroy();

    expect((await store.scripts()) - before).toBeLessThanOrEqual(5);
    expect((await (await store.open()).getState(token)).count).toBe(500);
  });

  it('are far fewer than turns when callers of one process queue: they share commits', async () => {
    const manager = await store.open();
    const token = await newCounter();
    await manager.modifyState(token, (counter) => counter.increment());
    const before = await store.scripts();
    await Promise.all(
      Array.from({ length: 200 }, () => manager.modifyState(token, (counter) => counter.increment())),
    );

    expect((await store.scripts()) - before).toBeLessThan(20);
    expect((await manager.getState(token)).count).toBe(201);
  });
});

describe('fencing', () => {
  const taken: [string, () => Promise<unknown>][] = [
    ['deleted', async () => store.client.del(await keyOf('lock'))],
    ['deleted with everything else', () => store.server.flush()],
    ['somebody else’s', async () => store.client.set(await keyOf('lock'), 'somebody:1', 'PX', 60_000)],
  ];
  it.each(taken)('refuses the commit of a turn whose lock is %s', async (_, take) => {
    const manager = await store.open();
    const token = await newCounter();
    await manager.modifyState(token, (counter) => counter.increment());
    const events: StateEvent[] = [];
    manager.events$.subscribe((event) => events.push(event));
    const call = manager.modifyState(token, async (counter) => {
      counter.count = 50;
      await take();
    });

    expect(await failureOf(call)).toBeInstanceOf(LockExpiredError);
    expect((await manager.getState(token)).count).toBeLessThan(2);
    expect(events.map(({ type }) => type)).toContain('lock-lost');
    expect(manager.stats()).toMatchObject({ openTurns: 0, waiting: 0 });
    if (_.startsWith('somebody')) expect(await store.client.get(await keyOf('lock'))).toBe('somebody:1');
  });

  it('aborts the signal of a turn whose lock is gone, when it is to be renewed', async () => {
    const manager = await store.open({ lockExpiration: 300, lockWarningThreshold: 100 });
    const turn = await manager.openTurn(newIdent());
    expect(turn.signal.aborted).toBe(false);
    await store.client.del(await keyOf('lock'));
    await until(() => turn.signal.aborted, 'the signal');

    expect(turn.signal.reason).toBeInstanceOf(LockExpiredError);
    expect(await failureOf(turn.commit())).toBeInstanceOf(LockExpiredError);
  });

  it('keeps the lock of a long turn, and its states, for as long as the turn lasts', async () => {
    const manager = await store.open({ lockExpiration: 600, lockWarningThreshold: 500, expiration: 700 });
    const token = await newCounter();
    await manager.modifyState(token, (counter) => counter.increment());
    await manager.modifyState(token, async (counter) => {
      await delay(2_500);
      counter.increment();
    });

    expect((await manager.getState(token)).count).toBe(2);
  });

  it('lets a newer state stand when a process that stood still for longer than its lease goes on', async () => {
    const [late, other] = [
      await store.open({ lockExpiration: 200, lockWarningThreshold: 100 }),
      await store.open(),
    ];
    const token = await newCounter();
    const call = failureOf(
      late.modifyState(token, async (counter) => {
        counter.count = 1_000;
        // Nothing runs meanwhile, neither timers nor sockets: another process has to take the lock.
        await store.client.pexpire(await keyOf('lock'), 1);
        await other.modifyState(token, (state) => state.increment());
      }),
    );

    expect(await call).toBeInstanceOf(LockExpiredError);
    expect((await other.getState(token)).count).toBe(1);
  });

  it('stores nothing on a message that says a lock was handed over when it was not', async () => {
    const [holder, waiter] = [await store.open(), await store.open()];
    const token = await newCounter();
    await holder.modifyState(token, (counter) => void (counter.count = 5));
    const turn = await holder.openTurn(token.ident);
    const call = failureOf(waiter.modifyState(token, (counter) => counter.increment()));
    await untilWaiting(waiter, 1);
    const lock = await keyOf('lock');
    let id: string | undefined;
    while (id === undefined) [id] = await store.client.zrange(lock.replace(/lock$/, 'wait'), '0', '0');
    const hash = /\{(.+)\}/.exec(lock)?.[1];
    await store.client.publish(`state:wake:${id.split(':')[0]}`, `handed ${hash} ${id}/old:1 \n`);

    expect(await call).toBeInstanceOf(LockExpiredError);
    await turn.commit();
    expect((await waiter.getState(token)).count).toBe(5);
    expect(await waiter.modifyState(token, (counter) => counter.count)).toBe(5);
    await until(() => waiter.stats().openTurns === 0);
    await delay(50);
    expect(await store.lockKeys()).toStrictEqual([]);
  });

  it('survives messages that are none', async () => {
    const manager = await store.open();
    const [channel] = (await store.client.pubsub('CHANNELS', 'state:wake:*')) as string[];
    for (const message of ['', '\n', 'handed', 'handed x', 'handed x y 5\nabc', 'handed x y NaN\n', 'wanted', 'wanted x nobody:1', '\u0000'])
      await store.client.publish(channel as string, message); // prettier-ignore
    const token = await newCounter();
    await manager.modifyState(token, (counter) => counter.increment());

    expect((await manager.getState(token)).count).toBe(1);
  });
});

describe('turns that share a commit', () => {
  it('fail together when the lock is lost, and what is stored is what was acknowledged', async () => {
    const manager = await store.open();
    const token = await newCounter();
    const gate = new Gate();
    const first = manager.modifyState(token, async (counter) => {
      await gate.opened;
      counter.increment();
    });
    const others = Array.from({ length: 20 }, () =>
      manager.modifyState(token, (counter) => counter.increment()),
    );
    await untilWaiting(manager, 20);
    await store.client.del(await keyOf('lock'));
    gate.open();
    const outcomes = await Promise.allSettled([first, ...others]);
    const failures = outcomes.filter((outcome) => outcome.status === 'rejected');

    expect(failures.length).toBeGreaterThan(1);
    for (const { reason } of failures) expect(reason).toBeInstanceOf(LockExpiredError);
    expect((await manager.getState(token)).count).toBe(outcomes.length - failures.length);
    expect(manager.stats()).toMatchObject({ openTurns: 0, waiting: 0 });
  });

  it('are all told that the lock is lost, also when the logger throws', async () => {
    const manager = await store.open();
    const token = await newCounter();
    jest.spyOn(Logger.prototype, 'warn').mockImplementation(() => {
      throw new Error('The disk of the logs is full.');
    });
    const gate = new Gate();
    const first = manager.modifyState(token, async (counter) => {
      await gate.opened;
      counter.increment();
    });
    const others = [1, 2, 3, 4].map(() => manager.modifyState(token, (counter) => counter.increment()));
    await untilWaiting(manager, 4);
    await store.client.del(await keyOf('lock'));
    gate.open();
    const outcomes = await Promise.allSettled([first, ...others]);
    jest.restoreAllMocks();

    for (const outcome of outcomes) {
      if (outcome.status === 'rejected') expect(outcome.reason).toBeInstanceOf(LockExpiredError);
    }
    expect(outcomes[0]).toMatchObject({ status: 'rejected' });
    expect(manager.stats()).toMatchObject({ openTurns: 0, waiting: 0 });
    expect(await manager.modifyState(token, () => 'free')).toBe('free');
  });

  it('fail alone when they throw', async () => {
    const manager = await store.open();
    const token = await newCounter();
    const outcomes = await Promise.allSettled(
      Array.from({ length: 30 }, (_, index) =>
        manager.modifyState(token, async (counter) => {
          counter.increment();
          if (index % 3 === 0) throw new Error(`refused ${index}`);
          return counter.count;
        }),
      ),
    );
    const values = outcomes.flatMap((outcome) => (outcome.status === 'fulfilled' ? [outcome.value] : []));

    expect(values).toStrictEqual(Array.from({ length: 20 }, (_, index) => index + 1));
    expect(outcomes.filter(({ status }) => status === 'rejected')).toHaveLength(10);
    expect((await manager.getState(token)).count).toBe(20);
  });

  it('fail alone when what they would store cannot be written, and free the lock', async () => {
    const manager = await store.open();
    const token = await newCounter();
    let deep: unknown = 'bottom';
    for (let level = 0; level < 900; level += 1) deep = Object.assign(new BoxState(), { value: deep });
    const outcomes = await Promise.allSettled(
      Array.from({ length: 10 }, (_, index) =>
        manager.modifyState(token, async (counter, turn) => {
          counter.increment();
          if (index === 4) (await turn.state(BoxState)).value = deep;
        }),
      ),
    );

    expect(outcomes.map(({ status }) => status === 'fulfilled')).toStrictEqual(
      Array.from({ length: 10 }, (_, index) => index !== 4),
    );
    expect((outcomes[4] as PromiseRejectedResult).reason).toMatchObject({ name: 'StateSerializationError' });
    expect((await manager.getState(token)).count).toBe(9);
    expect(await manager.modifyState(token, (counter) => counter.count)).toBe(9);
  });

  it('are answered without waiting for a slow one behind them', async () => {
    const manager = await store.open();
    const token = await newCounter();
    const slow = new Gate();
    const quick = Array.from({ length: 5 }, () =>
      manager.modifyState(token, (counter) => {
        counter.increment();
        return counter.count;
      }),
    );
    const last = manager.modifyState(token, async (counter) => {
      await slow.opened;
      counter.increment();
    });

    expect(await Promise.all(quick)).toStrictEqual([1, 2, 3, 4, 5]);
    expect((await manager.getState(token)).count).toBe(5);
    slow.open();
    await last;
    expect((await manager.getState(token)).count).toBe(6);
  });

  it('see a delete and what was set up after it, as if each had been stored alone', async () => {
    const manager = await store.open();
    const token = await newCounter();
    const carts = token.withClass(CartState);
    await manager.modifyState(carts, (cart) => void (cart.total = 9));
    const results = await Promise.all([
      manager.modifyState(token, (counter) => counter.increment()),
      manager.deleteState(token.ident),
      manager.modifyState(token, (counter, turn) => [counter.count, turn.isNew(CartState)]),
      manager.modifyState(token, (counter) => void (counter.count = 3)),
      manager.deleteState(token.ident),
      manager.modifyState(token, (counter) => void (counter.count += 4)),
    ]);

    expect(results.slice(1, 5)).toStrictEqual([true, [0, true], undefined, true]);
    expect((await manager.getState(token)).count).toBe(4);
    expect((await manager.getState(carts)).total).toBe(0);
  });
});

describe('what is in Redis', () => {
  it('is named by a hash of the ident, in one slot, and nothing of it is the ident', async () => {
    const [holder, waiter] = [await store.open(), await store.open()];
    const token = new StateToken(`secret-${newIdent()}`, CounterState);
    const hashes: string[] = [];
    holder.events$.subscribe(({ identHash }) => hashes.push(identHash));
    await holder.modifyState(token, (counter) => counter.increment());
    const turn = await holder.openTurn(token.ident);
    const call = waiter.modifyState(token, (counter) => counter.increment());
    let keys: string[] = [];
    while (keys.length < 3) keys = await store.server.keys();

    expect(keys.map((key) => key.replace(/[0-9a-f]{40}/, '…'))).toStrictEqual([
      'state:{…}',
      'state:{…}:lock',
      'state:{…}:wait',
    ]);
    expect(new Set(keys.map((key) => /\{.*\}/.exec(key)?.[0])).size).toBe(1);
    // Who has a line of a log finds the keys it is about.
    expect(keys[0]).toContain(`{${hashes[0]}`);
    expect(JSON.stringify([keys, await store.client.hgetall(keys[0] as string)])).not.toContain('secret-');
    await turn.rollback();
    await call;
  });

  it('is under the prefix that is configured, also one with braces and wildcards in it', async () => {
    for (const keyPrefix of ['app:', '{app}:', 'a*[b]?:']) {
      const manager = await store.open({ redis: { keyPrefix } });
      const other = await store.open({ redis: { keyPrefix } });
      await expectOneCounter(manager, other);
      expect((await store.server.keys()).every((key) => key.startsWith(keyPrefix))).toBe(true);
      await store.server.flush();
    }
  });

  it('is under the prefix of the client too, if that has one', async () => {
    const client = store.server.connect({ keyPrefix: 'outer:' });
    const [manager, other] = [
      await store.open({ redis: { client } }),
      await store.open({ redis: { client } }),
    ];
    await expectOneCounter(manager, other);
    expect(await store.server.keys()).toStrictEqual([expect.stringMatching(/^outer:state:\{/)]);
  });

  it('is kept aside when it cannot be read and is replaced: one warning, one event, no failing call', async () => {
    const manager = await store.open();
    const token = await newCounter();
    await manager.modifyState(token, (counter) => counter.increment());
    await manager.modifyState(token.withClass(CartState), (cart) => void (cart.total = 7));
    const [key] = (await store.server.keys()) as [string];
    const garbage = Buffer.from([0xc1, 0, 255, 17]);
    await store.client.hset(key, 'counter', garbage);
    const logs = RecordedLogs.start();
    const events: StateEvent[] = [];
    manager.events$.subscribe((event) => events.push(event));

    for (let round = 0; round < 3; round += 1) expect((await manager.getState(token)).count).toBe(0);
    await manager.modifyState(token, (counter, turn) => {
      expect(turn.isNew(CounterState)).toBe(true);
      counter.count = 5;
    });
    expect((await manager.getState(token)).count).toBe(5);
    expect((await manager.getState(token.withClass(CartState))).total).toBe(7);
    expect(await store.client.hgetBuffer(key, '~counter')).toStrictEqual(garbage);
    expect(logs.warnings).toHaveLength(1);
    expect(events.map(({ type }) => type)).toStrictEqual(['unreadable']);
    await manager.deleteState(token.ident);
    expect(await store.server.keys()).toStrictEqual([]);
  });
});

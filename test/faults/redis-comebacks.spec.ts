import { execFileSync } from 'node:child_process';
import { setImmediate, setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it } from '@jest/globals';
import { LockExpiredError, StateToken, type StateModuleOptions } from 'nestjs-state';
import { failureOf, newIdent, type OpenManager } from '../conformance/harness.js';
import { CartState, CounterState } from '../conformance/states.js';
import { TestRedis } from '../support/test-redis.js';

const store = TestRedis.forFile();

async function open(options: StateModuleOptions = {}): Promise<OpenManager> {
  const manager = await store.open(options);
  // The first call of each script brings its text along: none of those is to be counted.
  const token = new StateToken(newIdent(), CounterState);
  for (let turn = 0; turn < 3; turn += 1) await increment(manager, token);
  await lockIsFree();
  return manager;
}

function increment(manager: OpenManager, token: StateToken<CounterState>): Promise<number> {
  return manager.modifyState(token, (counter) => {
    counter.increment();
    return counter.count;
  });
}

/** Settles when there is no such key. */
async function untilGone(pattern: string): Promise<void> {
  const endMs = performance.now() + 5_000;
  while ((await store.server.keys(pattern)).length > 0) {
    if (performance.now() > endMs) throw new Error(`${pattern} is still there.`);
    await delay(1);
  }
}

/** How many locks there are, seen by another process while this one stands still. */
function locksMeanwhile(): number {
  const ask = `const socket = require('node:net').connect(${store.server.port}, '127.0.0.1');
    socket.once('data', (answer) => { console.log(parseInt(String(answer).slice(1), 10)); socket.destroy(); });
    socket.write('KEYS *:lock\\r\\n');`;
  return Number(execFileSync(process.execPath, ['-e', ask], { encoding: 'utf8' }));
}

const lockIsFree = (): Promise<void> => untilGone('*:lock');

describe('a caller who comes back for an ident with his answer', () => {
  it('pays one script a turn, and the lock is free when he comes no more', async () => {
    const manager = await open();
    const token = new StateToken(newIdent(), CounterState);
    const before = await store.scripts();
    for (let turn = 1; turn <= 100; turn += 1) expect(await increment(manager, token)).toBe(turn);
    await lockIsFree();

    // The first turn takes the lock and gives it up, the second takes it, and in the end it is given up.
    expect((await store.scripts()) - before).toBe(2 + 1 + 99 + 1);
    expect((await manager.getState(token)).count).toBe(100);
    expect(await store.server.keys('*:wait')).toStrictEqual([]);
  });

  it('pays two as everybody else when he takes his time', async () => {
    const manager = await open();
    const token = new StateToken(newIdent(), CounterState);
    const before = await store.scripts();
    for (let turn = 0; turn < 20; turn += 1) {
      await increment(manager, token);
      await delay(1);
    }

    expect((await store.scripts()) - before).toBe(40);
  });

  it('is not in the way of another process once the event loop goes on', async () => {
    const [manager, other] = [await open(), await open()];
    const token = new StateToken(newIdent(), CounterState);
    for (let turn = 0; turn < 3; turn += 1) await increment(manager, token);
    for (let turn = 0; turn < 3; turn += 1) {
      await increment(manager, token);
      await setImmediate();
      // Whoever asks now finds the lock free, or is handed it.
      await other.modifyState(token, (counter) => counter.increment(), { acquireTimeout: 500 });
    }

    expect((await manager.getState(token)).count).toBe(9);
  });

  it('has the lock for as long as his code computes in between, and no longer', async () => {
    const manager = await open();
    const token = new StateToken(newIdent(), CounterState);
    await increment(manager, token);
    expect(locksMeanwhile()).toBe(0);
    await increment(manager, token);
    await increment(manager, token);
    expect(locksMeanwhile()).toBe(1);
    await increment(manager, token);
    await setImmediate();
    await lockIsFree();

    expect((await manager.getState(token)).count).toBe(4);
  });

  it('has in the store what he was told, at every turn', async () => {
    const [manager, other] = [await open(), await open()];
    const token = new StateToken(newIdent(), CounterState);
    for (let turn = 1; turn <= 50; turn += 1) {
      const count = await increment(manager, token);
      const stored = other.getState(token);
      await increment(manager, token);
      expect([count, count + 1]).toContain((await stored).count);
    }
  });

  it('gives the lock up at once with a turn that fails', async () => {
    const manager = await open();
    const token = new StateToken(newIdent(), CounterState);
    for (let turn = 0; turn < 5; turn += 1) await increment(manager, token);
    const failure = failureOf(manager.modifyState(token, () => Promise.reject(new Error('refused'))));

    expect(await failure).toMatchObject({ message: 'refused' });
    await lockIsFree();
    expect((await manager.getState(token)).count).toBe(5);
  });

  it('hears of it when the lock was lost meanwhile, and nothing of that turn is stored', async () => {
    const manager = await open();
    const token = new StateToken(newIdent(), CounterState);
    for (let turn = 0; turn < 5; turn += 1) await increment(manager, token);
    const lost = failureOf(
      manager.modifyState(token, async (counter) => {
        counter.count = 1_000;
        for (const key of await store.server.keys('*:lock')) await store.client.del(key);
      }),
    );

    expect(await lost).toBeInstanceOf(LockExpiredError);
    expect(await increment(manager, token)).toBe(6);
  });

  it('restarts the window with every turn', async () => {
    const manager = await open({ expiration: 400 });
    const token = new StateToken(newIdent(), CounterState);
    for (let turn = 0; turn < 5; turn += 1) await increment(manager, token);
    await lockIsFree();
    const [states] = await store.server.keys('*}');

    const leftMs = await store.client.pttl(states as string);
    expect(leftMs).toBeGreaterThan(0);
    expect(leftMs).toBeLessThanOrEqual(400);
    await untilGone('*}');
  });

  it('keeps nobody waiting: processes take turns, and no turn is lost', async () => {
    const processes = [await open(), await open(), await open()];
    const token = new StateToken(newIdent(), CounterState);
    const order: number[] = [];
    let longestMs = 0;
    await Promise.all(
      processes.map(async (manager, number) => {
        for (let turn = 0; turn < 200; turn += 1) {
          const askedAtMs = performance.now();
          await manager.modifyState(token, (counter) => {
            longestMs = Math.max(longestMs, performance.now() - askedAtMs);
            order.push(number);
            counter.increment();
          });
        }
      }),
    );

    expect((await processes[0]?.getState(token))?.count).toBe(600);
    // Had one of them had the lock for all of his turns, the others would stand behind him.
    const half = order.slice(0, 300);
    for (const number of [0, 1, 2]) expect(half.filter((each) => each === number).length).toBeGreaterThan(30);
    expect(longestMs).toBeLessThan(1_000);
  });

  it('shares the lock with those of his process who use other states of the ident', async () => {
    const manager = await open();
    const ident = newIdent();
    const counters = async (): Promise<void> => {
      for (let turn = 0; turn < 100; turn += 1) await increment(manager, new StateToken(ident, CounterState));
    };
    const carts = async (): Promise<void> => {
      for (let turn = 0; turn < 100; turn += 1)
        await manager.modifyState(new StateToken(ident, CartState), (cart) => void cart.notes.push('x'));
    };
    await Promise.all([counters(), carts()]);

    expect((await manager.getState(new StateToken(ident, CounterState))).count).toBe(100);
    expect((await manager.getState(new StateToken(ident, CartState))).notes).toHaveLength(100);
    await lockIsFree();
  });

  it('leaves no lock behind a shutdown', async () => {
    const manager = await open();
    const token = new StateToken(newIdent(), CounterState);
    for (let turn = 0; turn < 5; turn += 1) await increment(manager, token);
    await manager.onModuleDestroy();

    expect(await store.server.keys('*:lock')).toStrictEqual([]);
    expect((await (await open()).getState(token)).count).toBe(5);
  });
});

import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it } from '@jest/globals';
import { StateStoreUnavailableError, StateToken } from 'nestjs-state';
import { failureOf, Gate, newIdent, untilWaiting, type OpenManager } from '../conformance/harness.js';
import { CounterState } from '../conformance/states.js';
import { freePort } from '../support/process.js';
import { until } from '../support/redis-server.js';
import { TestRedis } from '../support/test-redis.js';

const TIMEOUT_MS = 400;
/** What the machine may be late by. */
const TOLERANCE_MS = 500;

const store = TestRedis.forEachTest({ redis: { commandTimeout: TIMEOUT_MS } });

const increment = (manager: OpenManager, token: StateToken<CounterState>): Promise<number> =>
  manager.modifyState(token, (counter) => {
    counter.increment();
    return counter.count;
  });

/** Tries until the manager works again. */
async function untilBack(manager: OpenManager, withinMs = 5_000): Promise<void> {
  const endMs = performance.now() + withinMs;
  for (;;) {
    try {
      await manager.getState(new StateToken(newIdent(), CounterState));
      return;
    } catch (error) {
      if (performance.now() > endMs) throw error;
      await delay(20);
    }
  }
}

describe('a server that is away', () => {
  const faults: [string, () => Promise<unknown>, () => Promise<unknown>][] = [
    ['killed', () => store.server.kill(), () => store.server.restart()],
    ['standing still', async () => store.server.pause(), async () => store.server.resume()],
  ];

  it.each(faults)(
    'is told of within commandTimeout to everybody, and used again by itself: %s',
    async (_, strike, mend) => {
      // Long enough that nobody who waits for it twice is in time.
      const commandTimeout = 2 * TOLERANCE_MS;
      const manager = await store.open({ acquireTimeout: '30s', redis: { commandTimeout } });
      const token = new StateToken(newIdent(), CounterState);
      expect(await increment(manager, token)).toBe(1);
      await strike();
      const startMs = performance.now();
      const calls: Promise<unknown>[] = [
        manager.getState(token),
        manager.count(),
        manager.setState(new StateToken(newIdent(), CounterState), new CounterState()),
        manager.deleteState(newIdent()),
        manager.openTurn(newIdent()),
        // Twenty who queue for one ident are told together, not one after the other.
        ...Array.from({ length: 20 }, () => increment(manager, token)),
      ];
      const failures = await Promise.all(calls.map(failureOf));

      expect(performance.now() - startMs).toBeLessThan(commandTimeout + TOLERANCE_MS);
      for (const failure of failures) expect(failure).toBeInstanceOf(StateStoreUnavailableError);
      expect(manager.stats()).toMatchObject({ openTurns: 0, waiting: 0 });
      await mend();
      await untilBack(manager);
      expect(await increment(manager, new StateToken(newIdent(), CounterState))).toBe(1);
      expect(store.logs.errors).toStrictEqual([]);
    },
  );

  it.each(faults)(
    'fails the turn that is open, and the next one starts from what is stored: %s',
    async (_, strike, mend) => {
      const manager = await store.open({ lockExpiration: 600, lockWarningThreshold: 500 });
      const token = new StateToken(newIdent(), CounterState);
      const gate = new Gate();
      const open1 = manager.modifyState(token, async (counter) => {
        await gate.opened;
        counter.count = 100;
      });
      const queued = [1, 2, 3].map(() => failureOf(increment(manager, token)));
      await untilWaiting(manager, 3);
      await strike();
      gate.open();

      expect(await failureOf(open1)).toBeInstanceOf(StateStoreUnavailableError);
      for (const failure of await Promise.all(queued))
        expect(failure).toBeInstanceOf(StateStoreUnavailableError);
      await mend();
      await untilBack(manager);
      // Its lock was given back, or has run out; whether it, and those that share its commit, were stored nobody was told.
      expect([1, 101, 104]).toContain(await increment(manager, token));
    },
  );

  it('aborts the signal of a turn when its lock must have run out', async () => {
    const manager = await store.open({ lockExpiration: 500, lockWarningThreshold: 400 });
    const turn = await manager.openTurn(newIdent());
    expect(turn.signal.aborted).toBe(false);
    await store.server.kill();
    await delay(500 + TOLERANCE_MS + 200);

    expect(turn.signal.aborted).toBe(true);
    await turn.rollback();
  });

  it('makes nothing grow, and is not flooded with what nobody waits for when it is back', async () => {
    const manager = await store.open({ redis: { commandTimeout: 100 } });
    await increment(manager, new StateToken(newIdent(), CounterState));
    store.server.pause();
    for (let round = 0; round < 10; round += 1) {
      const calls = Array.from({ length: 100 }, () =>
        failureOf(increment(manager, new StateToken(newIdent(), CounterState))),
      );
      await Promise.all(calls);
    }
    store.server.resume();
    await untilBack(manager);
    await delay(200);

    // Of a thousand the first hundred were sent before anybody knew, and their locks given back, each of them at most
    // once more because the server had to be told the script.
    expect(await store.server.commandCalls('evalsha')).toBeLessThan(500);
    expect(await store.server.keys('*:lock')).toStrictEqual([]);
    expect(await manager.count()).toBe(1);
  });

  it('gives locks back that it granted when nobody waited for the answer any more', async () => {
    const manager = await store.open();
    store.server.pause();
    const token = new StateToken(newIdent(), CounterState);
    expect(await failureOf(increment(manager, token))).toBeInstanceOf(StateStoreUnavailableError);
    store.server.resume();
    await untilBack(manager);
    const startMs = performance.now();
    expect(await increment(manager, token)).toBe(1);
    expect(performance.now() - startMs).toBeLessThan(TOLERANCE_MS);
  });

  it('is used again over a new connection when the old one leads nowhere', async () => {
    const proxy = await store.startProxy();
    const manager = await store.open({ redis: { url: proxy.url, commandTimeout: 150 } });
    await increment(manager, new StateToken(newIdent(), CounterState));
    proxy.stall();
    await failureOf(increment(manager, new StateToken(newIdent(), CounterState)));
    const endMs = performance.now() + 1_000;
    while (performance.now() < endMs)
      await failureOf(increment(manager, new StateToken(newIdent(), CounterState)));
    proxy.cut();
    proxy.unstall();
    await untilBack(manager);
    await increment(manager, new StateToken(newIdent(), CounterState));
  });

  it('is not flooded with counts either that nobody waits for when it is back', async () => {
    const manager = await store.open({ redis: { commandTimeout: 100 } });
    await manager.count();
    const before = await store.server.commandCalls('scan');
    await store.server.kill();
    for (let round = 0; round < 5; round += 1)
      await Promise.all(Array.from({ length: 20 }, () => failureOf(manager.count())));
    await store.server.restart();
    await untilBack(manager);
    await delay(100);

    expect(before).toBeGreaterThan(0);
    expect(await store.server.commandCalls('scan')).toBeLessThan(25);
  });

  it('is used again after its scripts and all its keys have gone', async () => {
    const manager = await store.open();
    const token = new StateToken(newIdent(), CounterState);
    const admin = store.server.connect();
    await increment(manager, token);
    await admin.script('FLUSH');
    expect(await increment(manager, token)).toBe(2);
    const [first, second] = [increment(manager, token), admin.script('FLUSH')];
    await Promise.all([first, second]);
    await admin.flushall();
    expect(await increment(manager, token)).toBe(1);
    await Promise.all(
      Array.from({ length: 50 }, () => Promise.all([increment(manager, token), admin.script('FLUSH')])),
    );
    expect((await manager.getState(token)).count).toBe(51);
  });

  it('ends no process, and puts nothing on its console', async () => {
    const worker = await store.startWorker('survivor');
    const run = worker.run({ tasks: 4, idents: [newIdent()], restMs: 5 });
    await delay(300);
    await store.server.kill();
    await delay(1_000);
    await store.server.restart();
    await store.server.killClients('normal');
    const before = worker.records.length;
    const stored = () => worker.records.slice(before).filter(({ outcome }) => outcome === 'stored');
    await until('turns are stored again', async () => stored().length > 100);
    await worker.stop();
    await run;
    const codes = new Set(worker.records.map(({ outcome }) => outcome));

    expect(worker.records.at(-1)?.outcome).toBe('stored');
    expect(codes).toContain('unknown');
    expect(worker.written).toBe('');
    await worker.close();
  });

  it('stores what was acknowledged under leaseHold as soon as it is back, if the lock still lives', async () => {
    const manager = await store.open({ redis: { leaseHold: 100 } });
    const token = new StateToken(newIdent(), CounterState);
    await increment(manager, token);
    store.server.pause();
    await delay(TIMEOUT_MS + 400);
    store.server.resume();
    await untilBack(manager);
    await delay(300);

    expect(await store.server.keys('*:lock')).toStrictEqual([]);
    expect((await (await store.open()).getState(token)).count).toBe(1);
    expect(store.logs.errors).toStrictEqual([]);
  });
});

describe('starting', () => {
  it('fails clearly, and in time, when nothing listens, and says nothing secret', async () => {
    const port = await freePort();
    const startMs = performance.now();
    const failure = await failureOf(
      store.open({ redis: { url: `redis://user:hidden@127.0.0.1:${port}/0` } }),
    );

    expect(performance.now() - startMs).toBeLessThan(5 * TIMEOUT_MS + TOLERANCE_MS);
    expect(failure).toBeInstanceOf(StateStoreUnavailableError);
    expect((failure as Error).message).toContain(`127.0.0.1:${port}`);
    expect((failure as Error).message).toContain('ECONNREFUSED');
    expect((failure as Error).message).not.toContain('hidden');
  });

  it('fails clearly when the server stands still, refuses the password, or forbids to subscribe', async () => {
    await store.server
      .connect()
      .call('ACL', 'SETUSER', 'mute', 'on', '>mute', '~*', '+@all', 'resetchannels');
    const before = await clients();
    const refused = [
      `redis://app:wrong@127.0.0.1:${store.server.port}`,
      `redis://mute:mute@127.0.0.1:${store.server.port}`,
    ];
    for (const url of refused) {
      const failure = await failureOf(store.open({ redis: { url } }));
      expect(failure).toBeInstanceOf(StateStoreUnavailableError);
      expect((failure as Error).message).toMatch(/WRONGPASS|NOPERM/);
    }
    store.server.pause();
    expect(await failureOf(store.open())).toBeInstanceOf(StateStoreUnavailableError);
    store.server.resume();
    const endMs = performance.now() + 2_000;
    while ((await clients()) > before && performance.now() < endMs) await delay(10);
    expect(await clients()).toBe(before);
  });

  it('connects a client that waits to be used, and refuses one whose answers it could not read', async () => {
    const lazy = store.server.connect({ lazyConnect: true });
    const listeners = lazy.eventNames().map((name) => [name, lazy.listenerCount(name)]);
    const manager = await store.open({ redis: { client: lazy } });
    expect(await increment(manager, new StateToken(newIdent(), CounterState))).toBe(1);
    await manager.onModuleDestroy();
    expect(lazy.eventNames().map((name) => [name, lazy.listenerCount(name)])).toStrictEqual(listeners);
    const client = store.server.connect({ stringNumbers: true });
    expect(await failureOf(store.open({ redis: { client } }))).toMatchObject({
      name: 'InvalidStateOptionsError',
      message: expect.stringContaining('stringNumbers'),
    });
  });

  it('refuses a client that is none', async () => {
    expect(await failureOf(store.open({ redis: { client: { get: () => 1 } } }))).toMatchObject({
      name: 'InvalidStateOptionsError',
      message: expect.stringContaining('redis.client'),
    });
  });

  it('waits for a server that comes up a moment later', async () => {
    await store.server.kill();
    const opening = store.open({ redis: { commandTimeout: 3_000 } });
    await delay(200);
    await store.server.restart();
    const manager = await opening;

    expect(await increment(manager, new StateToken(newIdent(), CounterState))).toBe(1);
  });
});

describe('shutdown', () => {
  it('closes the connections it has opened, frees its locks, and leaves a client that it was given alone', async () => {
    const client = store.server.connect();
    await client.ping();
    const listeners = client.eventNames().map((name) => client.listenerCount(name));
    const before = await clients();
    const [own, given] = [await store.open(), await store.open({ redis: { client } })];
    for (const manager of [own, given]) {
      const token = new StateToken(newIdent(), CounterState);
      await increment(manager, token);
      await manager.openTurn(newIdent());
    }
    expect(await clients()).toBe(before + 3);
    const closing = [own, given].map((manager) => manager.onModuleDestroy());
    await delay(50);
    expect(await store.server.keys('*:lock')).toHaveLength(2);
    await Promise.all([store.closeManagers(), ...closing]);

    expect(await store.server.keys('*:lock')).toStrictEqual([]);
    expect(await clients()).toBe(before);
    expect(client.status).toBe('ready');
    expect(await client.ping()).toBe('PONG');
    expect(client.eventNames().map((name) => client.listenerCount(name))).toStrictEqual(listeners);
  }, 30_000);

  it('does not wait for a server that is away, with or without something to say', async () => {
    const idle = await store.open();
    const busy = await store.open({ drainTimeout: 100, lockExpiration: 800, lockWarningThreshold: 100 });
    await increment(idle, new StateToken(newIdent(), CounterState));
    await busy.openTurn(newIdent());
    await store.server.kill();
    const startMs = performance.now();
    await store.closeManagers();

    expect(performance.now() - startMs).toBeLessThan(100 + 3 * TIMEOUT_MS + TOLERANCE_MS);
  });

  it('lets the process end by itself', async () => {
    const worker = await store.startWorker('closing', { redis: { leaseHold: 300 } });
    await worker.run({ tasks: 2, idents: [newIdent()], turns: 5 });
    const startMs = performance.now();
    await worker.close();

    expect(performance.now() - startMs).toBeLessThan(2_000);
    expect(await store.server.keys('*:lock')).toStrictEqual([]);
  });
});

/** Connections of applications: those of the test's own helpers are another user's. */
async function clients(): Promise<number> {
  const admin = store.server.connect();
  const list = String(await admin.client('LIST'));
  admin.disconnect();
  return (
    list.split('\n').filter((line) => line.includes('user=default') || line.includes('user=mute')).length - 1
  );
}

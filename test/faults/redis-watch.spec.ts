import { setImmediate, setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it } from '@jest/globals';
import { StateToken, type StateChange } from 'nestjs-state';
import { describeSuite } from '../conformance/conformance.js';
import { newIdent, until, type OpenManager } from '../conformance/harness.js';
import { redisHarness } from '../conformance/redis-harness.js';
import { CartState, CounterState } from '../conformance/states.js';
import { watchSuite } from '../conformance/watch.suite.js';
import type { ManagerWorker } from '../support/manager-worker.js';
import { TestRedis } from '../support/test-redis.js';

const store = TestRedis.forFile();

function newCounter(): StateToken<CounterState> {
  return new StateToken(newIdent(), CounterState);
}

/** Watches, and resolves when that has begun. */
async function watch<T>(manager: OpenManager, token: StateToken<T>): Promise<StateChange<T>[]> {
  const changes: StateChange<T>[] = [];
  manager.watch(token).subscribe((change) => changes.push(change));
  await until(() => changes.length > 0, 'the first change');
  return changes;
}

function versions(changes: readonly StateChange<unknown>[]): number[] {
  return changes.map(({ version }) => version);
}

function upTo(version: number): number[] {
  return Array.from({ length: version + 1 }, (_, index) => index);
}

describeSuite(
  watchSuite,
  redisHarness(
    'redis manager, with leaseHold',
    () => ({ options: () => ({ url: store.server.url }), flush: () => store.server.flush() }),
    { defaults: { redis: { leaseHold: 200 } } },
  ),
);

describe('who watches', () => {
  it('costs whoever commits no further script, and nobody anything where nobody watches', async () => {
    const [writer, watcher] = [await store.open(), await store.open()];
    const token = newCounter();
    await writer.modifyState(token, (counter) => counter.increment());
    const cost = async (): Promise<[scripts: number, messages: number]> => {
      const before = [await store.scripts(), await store.server.commandCalls('publish')] as const;
      for (let turn = 0; turn < 50; turn += 1) {
        await writer.modifyState(token, (counter) => counter.increment());
        // Who comes back at once pays less.
        await setImmediate();
      }
      return [(await store.scripts()) - before[0], (await store.server.commandCalls('publish')) - before[1]];
    };

    expect(await cost()).toStrictEqual([100, 0]);
    const changes = await watch(watcher, token);
    const [watchedScripts, messages] = await cost();
    await until(() => changes.length === 51, 'all changes');
    expect(messages).toBe(50);
    // Those above two for each turn are looks of the watcher, one a second.
    expect(watchedScripts).toBeLessThan(110);
    expect(versions(changes)).toStrictEqual(upTo(101).slice(51));
  });

  it('leaves nothing behind when the last one leaves', async () => {
    const manager = await store.open();
    const token = newCounter();
    const first = manager.watch(token).subscribe();
    const second = manager.watch(token).subscribe();
    const other = manager.watch(token.withClass(CartState)).subscribe();
    await expectKeys(1);
    expect(await store.client.pttl((await store.server.keys('*:watch'))[0] as string)).toBeGreaterThan(0);
    first.unsubscribe();
    second.unsubscribe();
    await delay(50);
    await expectKeys(1);
    other.unsubscribe();
    await expectKeys(0);
    manager.watch(token).subscribe().unsubscribe();
    await manager.getState(token);
    await delay(50);
    expect(await store.server.keys('*:watch')).toStrictEqual([]);
    expect(await manager.count()).toBe(0);
  });

  it('is told for as long as it looks, however many states are watched', async () => {
    const [watcher, other] = [await store.open(), await store.open()];
    // As if so many were watched: its looks are 32 s apart then.
    const { rooms } = (watcher as unknown as { watched: { rooms: Map<unknown, unknown> } }).watched;
    Object.defineProperty(rooms, 'size', { value: 16_000 });
    const token = newCounter();
    await watch(watcher, token);
    // Somebody who looks once a second asks for less.
    await watch(other, token);
    const [key] = (await store.server.keys('*:watch')) as [string];

    expect(await store.client.zcard(key)).toBe(2);
    expect(await store.client.pttl(key)).toBeGreaterThan(60_000);
  });

  it('is forgotten when its process has died', async () => {
    const [writer, watcher] = [await store.open(), await store.open()];
    const token = newCounter();
    await watch(writer, token);
    await watch(watcher, token);
    const [key] = (await store.server.keys('*:watch')) as [string];
    // As one that was killed long ago left it.
    await store.client.zadd(key, '-1000', 'dead');
    await untilAsync(async () => (await store.client.zcard(key)) === 2);
  });

  it('hears of the turns of a process that had the lock before', async () => {
    const holder = await store.open({ redis: { leaseHold: '5s' } });
    const watcher = await store.open();
    const token = newCounter();
    for (let turn = 0; turn < 5; turn += 1) await holder.modifyState(token, (counter) => counter.increment());
    const changes = await watch(watcher, token);
    await delay(50);
    for (let turn = 0; turn < 5; turn += 1) await holder.modifyState(token, (counter) => counter.increment());
    await until(() => changes.at(-1)?.state.count === 10, 'the last turn');

    expect(changes.slice(-4).map(({ reason, version }) => [reason, version])).toStrictEqual([
      ['committed', 7],
      ['committed', 8],
      ['committed', 9],
      ['committed', 10],
    ]);
  });

  it('is told once Redis is back, and those who begin meanwhile that it is away', async () => {
    const manager = await store.open({ redis: { commandTimeout: 300 } });
    const token = newCounter();
    await manager.modifyState(token, (counter) => counter.increment());
    const changes = await watch(manager, token);
    await store.server.kill();
    let failure: unknown;
    manager.watch(newCounter()).subscribe({ error: (error: unknown) => (failure = error) });
    await until(() => failure !== undefined, 'a failure');
    expect(failure).toMatchObject({ name: 'StateStoreUnavailableError' });
    await store.server.restart();
    await untilAsync(async () => {
      await manager.modifyState(token, (counter) => void (counter.count = 70));
      return true;
    });
    await until(() => changes.at(-1)?.state.count === 70, 'the new state');
  });
});

describe('messages that are lost', () => {
  it('are made up for: connections killed while others commit end in the same state', async () => {
    const [writer, watcher] = [await store.open(), await store.open()];
    const token = newCounter();
    const changes = await watch(watcher, token);
    const killed = new AbortController();
    const killing = (async () => {
      for (let round = 0; round < 4; round += 1) {
        await delay(120);
        await store.server.killClients('pubsub');
      }
      killed.abort();
    })();
    let count = 0;
    for (; !killed.signal.aborted; count += 1)
      await writer.modifyState(token, (counter) => counter.increment());
    await killing;
    await until(() => changes.at(-1)?.version === count, 'the last version');

    const told = versions(changes);
    expect(told).toStrictEqual([...new Set(told)].sort((a, b) => a - b));
    for (const [index, { reason, version, state }] of changes.entries()) {
      expect(state.count).toBe(version);
      if (reason === 'committed') expect(version).toBe((told[index - 1] as number) + 1);
      else expect(reason).toBe(index === 0 ? 'current' : 'resynced');
    }
    await untilAsync(async () => {
      await writer.modifyState(token, (counter) => counter.increment());
      return changes.at(-1)?.reason === 'committed';
    });
  });

  it('are made up for without another commit', async () => {
    const [writer, watcher] = [await store.open(), await store.open()];
    const token = newCounter();
    const changes = await watch(watcher, token);
    await store.server.killClients('pubsub');
    await writer.modifyState(token, (counter) => counter.increment());
    await until(() => changes.length > 1, 'what was missed');

    expect(changes.slice(1).map(({ version }) => version)).toStrictEqual([1]);
  });

  it('forged and damaged ones change nothing for good', async () => {
    const manager = await store.open();
    const token = newCounter();
    await manager.modifyState(token, (counter) => void (counter.count = 3));
    const changes = await watch(manager, token);
    const [watching] = (await store.server.keys('*:watch')) as [string];
    const hash = /\{(\w+)\}/.exec(watching)?.[1];
    const [instance] = await store.client.zrange(watching, 0, '-1');
    for (const forged of [
      `changed ${hash}`,
      `changed ${hash}  x 0 5 500\ncut`,
      `changed ${hash} unknown other 0\n${'\xff'.repeat(20)}`,
      `changed ${'0'.repeat(40)} a b 1\n`,
      'changed',
    ])
      await store.client.publish(`state:wake:${instance}`, Buffer.from(forged, 'latin1'));
    await delay(100);
    await manager.modifyState(token, (counter) => counter.increment());
    await until(() => changes.at(-1)?.state.count === 4, 'the next commit');

    expect(versions(changes)).toStrictEqual([1, 2]);
  });
});

describe('a thousand watchers in two processes', () => {
  it('are each told of every one of a thousand commits, in order', async () => {
    const ident = newIdent();
    const workers = await Promise.all(['writer', 'first', 'second'].map((name) => store.startWorker(name)));
    const [writer, ...readers] = workers as [ManagerWorker, ManagerWorker, ManagerWorker];
    try {
      const turns = 1_000;
      const write = async (): Promise<number> => {
        const startMs = performance.now();
        await writer.run({ tasks: 1, idents: [ident], turns, keepsEntries: false, reportsLast: true });
        return (turns * 1_000) / (performance.now() - startMs);
      };
      await write();
      const alone = await write();
      await Promise.all(readers.map((reader) => reader.watch(ident, 500)));
      const watched = await write();
      const reports = (await Promise.all(readers.map((reader) => reader.watched(3 * turns)))).flat();
      console.log(
        `Commits beside 1,000 watchers: ${(watched / alone).toFixed(2)} of the rate without (${Math.round(alone)}/s).`,
      );

      expect(reports).toHaveLength(1_000);
      const last = { told: turns + 1, gaps: 0, last: 3 * turns, count: 3 * turns, entries: 0 };
      expect(reports.filter((report) => JSON.stringify(report) !== JSON.stringify(last))).toStrictEqual([]);
      await Promise.all(readers.map((reader) => reader.unwatch()));
      await expectKeys(0);
    } finally {
      await Promise.all(workers.map((worker) => worker.close()));
    }
  }, 60_000);
});

async function expectKeys(count: number): Promise<void> {
  await untilAsync(async () => (await store.server.keys('*:watch')).length === count);
}

/** Asks again and again, for what a server answers; whoever throws is asked again. */
async function untilAsync(condition: () => Promise<boolean>): Promise<void> {
  const deadlineMs = performance.now() + 10_000;
  while (!(await condition().catch(() => false))) {
    if (performance.now() > deadlineMs) throw new Error('It never came true.');
    await delay(10);
  }
}

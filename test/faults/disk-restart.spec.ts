import { readdir, stat } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it } from '@jest/globals';
import { StateStoreUnavailableError, StateToken } from 'nestjs-state';
import { Gate, seededRandom, until } from '../conformance/harness.js';
import { CartState, CounterState } from '../conformance/states.js';
import { DiskFolder } from '../support/disk-folder.js';
import { FakeClock } from '../support/fake-clock.js';
import { openDiskManager } from '../support/manager-disk.js';
import { RecordedLogs } from '../support/manager-logs.js';

const HOUR_MS = 3_600_000;

describe('A restart', () => {
  it('finds the states, their versions and how many there are', async () => {
    await using folder = await DiskFolder.create();
    const first = await openDiskManager(folder.path);
    for (let number = 0; number < 20; number += 1) {
      const token = new StateToken(`ident-${number}`, CounterState);
      for (let round = 0; round <= number % 3; round += 1)
        await first.modifyState(token, (counter) => void counter.increment());
      if (number % 2 === 0)
        await first.modifyState(token.withClass(CartState), (cart) => void cart.notes.push('apple'));
    }
    await first.onModuleDestroy();

    const second = await openDiskManager(folder.path);
    expect(await second.count()).toBe(20);
    expect(second.stats()).toMatchObject({ mode: 'disk', states: 30, openTurns: 0, waiting: 0 });
    for (let number = 0; number < 20; number += 1) {
      const token = new StateToken(`ident-${number}`, CounterState);
      expect((await second.getState(token)).count).toBe((number % 3) + 1);
      const cart = await second.getState(token.withClass(CartState));
      expect(cart.notes).toStrictEqual(number % 2 === 0 ? ['apple'] : []);
    }
    const versions: number[] = [];
    const watching = second
      .watch(new StateToken('ident-2', CounterState))
      .subscribe(({ version }) => versions.push(version));
    await second.modifyState(new StateToken('ident-2', CounterState), (counter) => void counter.increment());
    await until(() => versions.length === 2, 'two versions');
    expect(versions).toStrictEqual([3, 4]);
    watching.unsubscribe();
    await second.onModuleDestroy();
  });

  it.each([0, 50])(
    'finds states that were moved under their new ident alone (flushInterval: %i)',
    async (flushInterval) => {
      await using folder = await DiskFolder.create();
      const first = await openDiskManager(folder.path, { disk: { flushInterval } });
      const token = new StateToken('before', CounterState);
      const heir = new StateToken('now', CounterState);
      await first.setState(token, { count: 3 } as CounterState);
      await first.setState(token.withClass(CartState), {
        items: [],
        notes: ['a'],
        total: 1,
      } as unknown as CartState);
      await first.modifyState(token, async (counter) => {
        await first.renameState(token.ident, heir.ident);
        counter.count += 1;
      });
      await first.onModuleDestroy();

      const second = await openDiskManager(folder.path);
      expect(await second.count()).toBe(1);
      expect((await second.getState(token)).count).toBe(0);
      expect((await second.getState(heir)).count).toBe(4);
      expect((await second.getState(heir.withClass(CartState))).notes).toStrictEqual(['a']);
      await second.onModuleDestroy();
    },
  );

  it('finds states where they were when there was no room to move them', async () => {
    await using folder = await DiskFolder.create();
    let freeBytes = 1e12;
    const first = await openDiskManager(folder.path, {}, undefined, undefined, async () => freeBytes);
    const token = new StateToken('before', CounterState);
    const heir = new StateToken('now', CounterState);
    await first.setState(token, { count: 3 } as CounterState);
    freeBytes = 0;
    await delay(1_100);
    await expect(first.renameState(token.ident, heir.ident)).rejects.toBeInstanceOf(
      StateStoreUnavailableError,
    );
    expect((await first.getState(token)).count).toBe(3);
    expect((await first.getState(heir)).count).toBe(0);
    expect(first.stats()).toMatchObject({ openTurns: 0, waiting: 0, states: 1 });
    freeBytes = 1e12;
    expect(await first.renameState(token.ident, heir.ident)).toBe(true);
    await first.onModuleDestroy();

    const second = await openDiskManager(folder.path);
    expect([await second.count(), (await second.getState(heir)).count]).toStrictEqual([1, 3]);
    await second.onModuleDestroy();
  });

  it('finds nothing of what has expired while nobody was there, and the rest with the time it has left', async () => {
    await using folder = await DiskFolder.create();
    let wallMs = Date.parse('2026-01-01T00:00:00Z');
    const open = async (clock: FakeClock) =>
      openDiskManager(folder.path, { expiration: '1h' }, clock, () => wallMs);
    const clock = new FakeClock();
    const first = await open(clock);
    await first.modifyState(new StateToken('old', CounterState), (counter) => void counter.increment());
    clock.block(HOUR_MS / 2);
    wallMs += HOUR_MS / 2;
    await first.modifyState(new StateToken('young', CounterState), (counter) => void counter.increment());
    await first.onModuleDestroy();

    wallMs += HOUR_MS * 0.75;
    const later = new FakeClock(7);
    const second = await open(later);
    expect(await second.count()).toBe(1);
    expect((await second.getState(new StateToken('old', CounterState))).count).toBe(0);
    expect(second.stats().states).toBe(1);
    const events: string[] = [];
    second.events$.subscribe(({ type, states }) => events.push(`${type} ${states.join()}`));
    await later.advance(HOUR_MS / 4 - 1_000);
    expect(await second.count()).toBe(1);
    await later.advance(1_001);
    expect(await second.count()).toBe(0);
    expect(second.stats().states).toBe(0);
    // Whose it was nobody has said since the restart.
    expect(events).toStrictEqual(['expired counter']);
    await second.onModuleDestroy();

    const third = await open(new FakeClock());
    expect(await third.count()).toBe(0);
    await third.onModuleDestroy();
  });

  it('makes no window longer when the clock of the machine was set back', async () => {
    await using folder = await DiskFolder.create();
    let wallMs = Date.parse('2026-01-01T00:00:00Z');
    const open = async (clock: FakeClock) =>
      openDiskManager(folder.path, { expiration: '1h' }, clock, () => wallMs);
    const first = await open(new FakeClock());
    await first.modifyState(new StateToken('one', CounterState), (counter) => void counter.increment());
    await first.onModuleDestroy();
    wallMs -= 30 * 24 * HOUR_MS;
    const clock = new FakeClock();
    const second = await open(clock);
    expect(await second.count()).toBe(1);
    await clock.advance(HOUR_MS + 1);
    expect(await second.count()).toBe(0);
    await second.onModuleDestroy();
  });

  it('knows of uses that changed nothing: they have begun a window as well', async () => {
    await using folder = await DiskFolder.create();
    let wallMs = Date.parse('2026-01-01T00:00:00Z');
    const clock = new FakeClock();
    const first = await openDiskManager(folder.path, { expiration: '1h' }, clock, () => wallMs);
    const read = new StateToken('read', CounterState);
    const used = new StateToken('used', CounterState);
    for (const token of [read, used, new StateToken('left', CounterState)])
      await first.modifyState(token, (counter) => void counter.increment());
    clock.block(HOUR_MS / 2);
    wallMs += HOUR_MS / 2;
    await first.getState(read);
    await first.modifyState(used, ({ count }) => count);
    await first.onModuleDestroy();
    wallMs += HOUR_MS * 0.75;
    const second = await openDiskManager(folder.path, { expiration: '1h' }, undefined, () => wallMs);
    expect(await second.count()).toBe(2);
    await second.onModuleDestroy();
  });

  it('leaves no ident in the files, and lets nobody but its user into the folder', async () => {
    await using parent = await DiskFolder.create();
    const path = `${parent.path}/states`;
    const manager = await openDiskManager(path);
    await manager.modifyState(new StateToken('a-very-secret-ident', CounterState), (counter) => {
      counter.increment();
    });
    await manager.onModuleDestroy();
    const { readFileSync } = await import('node:fs');
    const files = await readdir(path);
    for (const file of files)
      expect(readFileSync(`${path}/${file}`).includes('a-very-secret-ident')).toBe(false);
    expect(files.filter((file) => file.endsWith('.sock'))).toStrictEqual([]);
    expect((await stat(path)).mode & 0o077).toBe(0);
  });

  it('of a store with many idents reads little more than their names', async () => {
    await using folder = await DiskFolder.create();
    const first = await openDiskManager(folder.path, { disk: { flushInterval: '1s' } });
    for (let number = 0; number < 20_000; number += 1)
      await first.modifyState(new StateToken(`ident-${number}`, CounterState), (counter) => {
        counter.increment();
      });
    await first.onModuleDestroy();
    const startMs = performance.now();
    const second = await openDiskManager(folder.path);
    const tookMs = performance.now() - startMs;
    expect(await second.count()).toBe(20_000);
    expect(tookMs).toBeLessThan(5_000);
    await second.onModuleDestroy();
  });
});

describe('Turns on a disk', () => {
  it('lose no increment, whatever comes between them: deletes, reads, turns over several idents, expirations', async () => {
    await using folder = await DiskFolder.create();
    const random = seededRandom(42);
    const manager = await openDiskManager(folder.path, { expiration: '1h' });
    const tokens = Array.from({ length: 6 }, (_, number) => new StateToken(`ident-${number}`, CounterState));
    const expected = tokens.map(() => 0);
    const one = async (): Promise<void> => {
      const at = Math.floor(random() * tokens.length);
      const token = tokens[at] as StateToken<CounterState>;
      const choice = random();
      if (choice < 0.6) {
        await manager.modifyState(token, async (counter) => {
          if (random() < 0.3) await delay(0);
          counter.increment();
        });
        expected[at] = (expected[at] as number) + 1;
      } else if (choice < 0.75) {
        const seen = expected[at] as number;
        expect((await manager.getState(token)).count).toBeGreaterThanOrEqual(seen);
      } else if (choice < 0.9) {
        const to = (at + 1) % tokens.length;
        await manager.modifyStates([token, tokens[to] as StateToken<CounterState>], (a, b) => {
          a.increment();
          b.increment();
        });
        for (const index of [at, to]) expected[index] = (expected[index] as number) + 1;
      } else {
        await manager
          .modifyState(token, (counter) => {
            counter.increment();
            throw new Error('changed its mind');
          })
          .catch(() => undefined);
      }
    };
    const loop = async (): Promise<void> => {
      for (let number = 0; number < 150; number += 1) await one();
    };
    await Promise.all(Array.from({ length: 16 }, loop));
    for (const [at, token] of tokens.entries())
      expect((await manager.getState(token)).count).toBe(expected[at]);
    await manager.onModuleDestroy();
    const again = await openDiskManager(folder.path);
    for (const [at, token] of tokens.entries())
      expect((await again.getState(token)).count).toBe(expected[at]);
    await again.onModuleDestroy();
  });

  it('see what the one before has made, and readers only what is on the disk', async () => {
    await using folder = await DiskFolder.create();
    RecordedLogs.start();
    const manager = await openDiskManager(folder.path);
    const token = new StateToken('ident', CounterState);
    const first = manager.modifyState(token, (counter) => (counter.count += 1));
    const second = manager.modifyState(token, (counter) => (counter.count += 1));
    await Promise.resolve();
    expect((await manager.getState(token)).count).toBe(0);
    expect(await Promise.all([first, second])).toStrictEqual([1, 2]);
    expect((await manager.getState(token)).count).toBe(2);
    await manager.onModuleDestroy();
  });
});

describe('A slow disk', () => {
  it('lets nothing expire before it is there', async () => {
    await using folder = await DiskFolder.create();
    const written = new Gate();
    const clock = new FakeClock();
    const options = { expiration: 100 };
    const manager = await openDiskManager(folder.path, options, clock, undefined, async () => {
      await written.opened;
      return Number.MAX_SAFE_INTEGER;
    });
    const token = new StateToken('ident', CounterState);
    const told: string[] = [];
    manager.events$.subscribe(({ type }) => told.push(type));
    const committing = manager.modifyState(token, (counter) => void (counter.count = 7));
    await clock.advance(1_000);
    expect(told).toStrictEqual([]);

    written.open();
    await committing;
    expect((await manager.getState(token)).count).toBe(7);
    await clock.advance(99);
    expect(told).toStrictEqual(['created']);
    await clock.advance(1);
    expect(told).toStrictEqual(['created', 'expired']);
    expect(manager.stats()).toMatchObject({ states: 0, openTurns: 0 });
    const closing = manager.onModuleDestroy();
    await clock.advance(HOUR_MS);
    await closing;
  });
});

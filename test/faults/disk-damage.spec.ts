import { createHash } from 'node:crypto';
import { readFile, truncate, writeFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it, jest } from '@jest/globals';
import { open } from 'lmdb';
import { StateStoreUnavailableError, StateToken } from 'nestjs-state';
import { StateCodec } from '../../lib/internal/state-codec.js';
import { failureOf, Gate, seededRandom, tick, until } from '../conformance/harness.js';
import { CartState, CounterState } from '../conformance/states.js';
import { DiskFolder } from '../support/disk-folder.js';
import { FakeClock } from '../support/fake-clock.js';
import { openDiskManager } from '../support/manager-disk.js';
import { RecordedLogs } from '../support/manager-logs.js';
import { ManagerWorker } from '../support/manager-worker.js';

const hashOf = async (file: string): Promise<string> =>
  createHash('sha256')
    .update(await readFile(file))
    .digest('hex');

/** A store with some states, closed in order. */
async function makeStore(folder: DiskFolder, idents = 50): Promise<void> {
  const manager = await openDiskManager(folder.path);
  for (let number = 0; number < idents; number += 1) {
    await manager.modifyState(new StateToken(`ident-${number}`, CartState), (cart) => {
      cart.notes.push('x'.repeat(500));
    });
  }
  await manager.onModuleDestroy();
}

/** As it is after its process was killed: without the word that it was closed in order. */
const forgetOrderlyEnd = (folder: DiskFolder): Promise<void> =>
  rm(join(folder.path, 'closed.sha256'), { force: true });

async function expectRefused(folder: DiskFolder, message: RegExp): Promise<void> {
  const before = await hashOf(folder.data);
  const refusal = await failureOf(openDiskManager(folder.path));
  expect(refusal).toBeInstanceOf(StateStoreUnavailableError);
  expect((refusal as Error).message).toMatch(message);
  expect((refusal as Error).message).toMatch(/kept as it is/);
  expect(await hashOf(folder.data)).toBe(before);
}

const DAMAGE: Record<string, (folder: DiskFolder) => Promise<void>> = {
  'a text': ({ data }) => writeFile(data, 'Not a database.\n'),
  garbage: ({ data }) => writeFile(data, Buffer.alloc(200_000, 0xa5)),
  'the first half of it': async ({ data }) => truncate(data, (await readFile(data)).length / 2),
  'a hole in the middle': async ({ data }) => {
    const bytes = await readFile(data);
    await writeFile(data, bytes.fill(0, 8_192, bytes.length - 4_096));
  },
};

describe('A store that is damaged, or none of ours', () => {
  for (const [what, damage] of Object.entries(DAMAGE)) {
    it(`keeps the application from starting and is kept: ${what}, after an orderly end`, async () => {
      await using folder = await DiskFolder.create();
      await makeStore(folder);
      await damage(folder);
      await expectRefused(folder, /is not what it was when it was closed/);
    });

    it(`keeps the application from starting and is kept: ${what}, after a crash`, async () => {
      await using folder = await DiskFolder.create();
      await makeStore(folder);
      await damage(folder);
      await forgetOrderlyEnd(folder);
      await expectRefused(folder, /is damaged, or no store of this library/);
    });
  }

  it('is refused whichever of its bytes is another one', async () => {
    await using folder = await DiskFolder.create();
    await makeStore(folder);
    const bytes = await readFile(folder.data);
    const random = seededRandom(20261124);
    for (let round = 0; round < 25; round += 1) {
      const at = Math.floor(random() * bytes.length);
      const changed = Buffer.from(bytes);
      changed[at] = (changed[at] as number) ^ (1 + Math.floor(random() * 255));
      await writeFile(folder.data, changed);
      await expectRefused(folder, /is not what it was when it was closed/);
    }
    await writeFile(folder.data, bytes);
    const manager = await openDiskManager(folder.path);
    expect(await manager.count()).toBe(50);
    await manager.onModuleDestroy();
  });

  it('is refused when it is a database of something else', async () => {
    await using folder = await DiskFolder.create();
    const other = open({ path: folder.path, maxDbs: 4, noSubdir: false });
    await other.openDB({ name: 'orders' }).put('first', { total: 3 });
    await other.close();
    await expectRefused(folder, /a database of something else/);
  });

  it('is refused when a later version has written it', async () => {
    await using folder = await DiskFolder.create();
    await makeStore(folder);
    const store = open({ path: folder.path, maxDbs: 4, noSubdir: false, encoding: 'binary' });
    await store.openDB({ name: 'meta', encoding: 'binary' }).put('format', Buffer.from('nestjs-state 2'));
    await store.close();
    await forgetOrderlyEnd(folder);
    await expectRefused(folder, /states of another version \(nestjs-state 2\)/);
  });

  it('can be replaced by a copy, which is read whole before it is used', async () => {
    await using folder = await DiskFolder.create();
    await makeStore(folder);
    const copy = await readFile(folder.data);
    const manager = await openDiskManager(folder.path);
    await manager.deleteState('ident-3');
    await manager.onModuleDestroy();
    await writeFile(folder.data, copy);
    await expectRefused(folder, /If you have replaced it, delete closed\.sha256/);
    await forgetOrderlyEnd(folder);
    const again = await openDiskManager(folder.path);
    expect(await again.count()).toBe(50);
    await again.onModuleDestroy();
  });

  it('keeps a record that cannot be read to itself: a fresh state, one warning, one event', async () => {
    await using folder = await DiskFolder.create();
    await makeStore(folder, 3);
    const store = open({ path: folder.path, maxDbs: 4, noSubdir: false, encoding: 'binary' });
    const states = store.openDB({ name: 'states', encoding: 'binary' });
    for (const key of states.getKeys()) await states.put(key, Buffer.from('garbage'));
    const idents = store.openDB({ name: 'idents', encoding: 'binary' });
    const [first] = [...idents.getKeys()];
    await idents.put(first as string, Buffer.from('garbage'));
    await store.close();
    await forgetOrderlyEnd(folder);

    const logs = RecordedLogs.start();
    const manager = await openDiskManager(folder.path);
    expect(await manager.count()).toBe(3);
    const events: string[] = [];
    manager.events$.subscribe(({ type }) => events.push(type));
    const token = new StateToken('ident-1', CartState);
    for (let round = 0; round < 3; round += 1)
      expect((await manager.getState(token)).notes).toStrictEqual([]);
    await manager.modifyState(token, (cart) => void cart.notes.push('new'));
    expect((await manager.getState(token)).notes).toStrictEqual(['new']);
    expect(events).toStrictEqual(['unreadable']);
    expect(logs.warnings.filter((line) => line.includes('cannot be read'))).toHaveLength(1);
    await manager.onModuleDestroy();
  });

  it('does not end the process that opens it after a crash, wherever it is damaged', async () => {
    await using folder = await DiskFolder.create();
    await makeStore(folder);
    const bytes = await readFile(folder.data);
    const random = seededRandom(7);
    const pages = bytes.length / 4_096;
    for (let round = 0; round < 5; round += 1) {
      const changed = Buffer.from(bytes);
      // The head of a page says what is where in it: nothing in a file is more sensitive.
      for (let page = 0; page < 3; page += 1)
        changed.fill(
          0xff,
          Math.floor(random() * pages) * 4_096 + 8,
          Math.floor(random() * pages) * 4_096 + 24,
        );
      await writeFile(folder.data, changed);
      await forgetOrderlyEnd(folder);
      const outcome = await ManagerWorker.start('opens', { mode: 'disk', disk: { path: folder.path } }).then(
        async (worker) => {
          await worker.close();
          return 'opened';
        },
        (error: Error) => error.message,
      );
      expect(outcome).toMatch(/^opened$|STATE_STORE_UNAVAILABLE|StateStoreUnavailableError/);
      await rm(join(folder.path, 'lock.mdb'), { force: true });
    }
  }, 180_000);
});

describe('A disk without room', () => {
  it('refuses turns and keeps what is stored; readers, and turns that change nothing, go on', async () => {
    await using folder = await DiskFolder.create();
    let freeBytes = Number.MAX_SAFE_INTEGER;
    const manager = await openDiskManager(folder.path, {}, undefined, undefined, async () => freeBytes);
    const token = new StateToken('ident', CounterState);
    const other = new StateToken('other', CounterState);
    await manager.modifyState(token, (counter) => void counter.increment());
    freeBytes = 1_000_000;
    await new Promise((resolve) => setTimeout(resolve, 150));

    const refused = await Promise.allSettled(
      Array.from({ length: 20 }, (_, number) =>
        manager.modifyState(number % 2 === 0 ? token : other, async (counter) => (counter.count += 1)),
      ),
    );
    for (const outcome of refused) {
      expect(outcome.status).toBe('rejected');
      expect((outcome as PromiseRejectedResult).reason).toBeInstanceOf(StateStoreUnavailableError);
    }
    expect((await manager.getState(token)).count).toBe(1);
    expect((await manager.getState(other)).count).toBe(0);
    expect(await manager.modifyState(token, ({ count }) => count)).toBe(1);
    expect(manager.stats()).toMatchObject({ openTurns: 0, waiting: 0, states: 1 });
    expect(await manager.count()).toBe(1);

    freeBytes = Number.MAX_SAFE_INTEGER;
    expect(await manager.modifyState(token, (counter) => (counter.count += 1))).toBe(2);
    expect(await manager.modifyState(other, (counter) => (counter.count += 1))).toBe(1);
    await manager.onModuleDestroy();
    const again = await openDiskManager(folder.path);
    expect((await again.getState(token)).count).toBe(2);
    expect((await again.getState(other)).count).toBe(1);
    await again.onModuleDestroy();
  });

  it('shows what it refuses to delete or to move all the time', async () => {
    await using folder = await DiskFolder.create();
    await makeStore(folder, 2);
    const asked = new Gate();
    const answered = new Gate();
    const manager = await openDiskManager(folder.path, {}, undefined, undefined, async () => {
      asked.open();
      await answered.opened;
      return 0;
    });
    const tokens = ['ident-0', 'ident-1', 'heir'].map((ident) => new StateToken(ident, CartState));
    const notes = () =>
      Promise.all(tokens.map(async (token) => (await manager.getState(token)).notes.length));
    const moved = failureOf(manager.renameState('ident-0', 'heir'));
    await asked.opened;
    // A delete alone needs no room: it goes the way of the move that it waits behind.
    const deleted = failureOf(manager.deleteState('ident-1'));
    await tick();
    const changes: [reason: string, notes: number][] = [];
    for (const token of tokens)
      manager.watch(token).subscribe(({ reason, state }) => changes.push([reason, state.notes.length]));
    await until(() => changes.length === 3, 'the first look of the watchers');

    expect(await notes()).toStrictEqual([1, 1, 0]);
    answered.open();
    for (const failure of [await moved, await deleted])
      expect(failure).toBeInstanceOf(StateStoreUnavailableError);
    await tick();
    expect(await notes()).toStrictEqual([1, 1, 0]);
    expect(changes).toStrictEqual([
      ['current', 1],
      ['current', 1],
      ['current', 0],
    ]);
    expect(await manager.count()).toBe(2);
    expect(manager.stats()).toMatchObject({ openTurns: 0, waiting: 0, states: 2 });
    await manager.onModuleDestroy();
  });

  it('brings back nothing that has expired when it refuses what was made in its place', async () => {
    await using folder = await DiskFolder.create();
    await makeStore(folder, 2);
    const asked = new Gate();
    const answered = new Gate();
    const clock = new FakeClock();
    const wallMs = Date.now();
    const reopen = (freeBytes?: () => Promise<number>) =>
      openDiskManager(folder.path, { expiration: '1h' }, clock, () => wallMs, freeBytes);
    const manager = await reopen(async () => {
      asked.open();
      await answered.opened;
      return 0;
    });
    const events: string[] = [];
    manager.events$.subscribe(({ type }) => events.push(type));
    const tokens = ['ident-0', 'ident-1'].map((ident) => new StateToken(ident, CartState)) as [
      StateToken<CartState>,
      StateToken<CartState>,
    ];
    const add = (token: StateToken<CartState>) =>
      failureOf(manager.modifyState(token, (cart) => void cart.notes.push('new')));
    const notes = () => Promise.all(tokens.map(async (token) => (await manager.getState(token)).notes));
    // No timer fires: the first who comes finds that the window is over.
    clock.block(3_600_001);

    // Of one ident the removal is written together with what comes after it, of the other one before that.
    const together = add(tokens[0]);
    expect((await manager.getState(tokens[1])).notes).toStrictEqual([]);
    await asked.opened;
    const after = add(tokens[1]);
    answered.open();
    for (const failure of [await together, await after])
      expect(failure).toBeInstanceOf(StateStoreUnavailableError);
    expect(await notes()).toStrictEqual([[], []]);
    expect(await manager.count()).toBe(0);
    expect(manager.stats()).toMatchObject({ openTurns: 0, waiting: 0, states: 0 });
    expect(events).toStrictEqual(['expired', 'expired']);
    await manager.onModuleDestroy();

    // By the clock of the machine no time has passed: what was still there would be found.
    const again = await reopen();
    expect(await again.count()).toBe(0);
    await again.onModuleDestroy();
  });

  it('is tried again under flushInterval, and nothing is lost meanwhile', async () => {
    await using folder = await DiskFolder.create();
    const logs = RecordedLogs.start();
    let freeBytes = 0;
    const options = { disk: { flushInterval: 20 } };
    const manager = await openDiskManager(folder.path, options, undefined, undefined, async () => freeBytes);
    const tokens = Array.from({ length: 5 }, (_, number) => new StateToken(`ident-${number}`, CounterState));
    for (let round = 1; round <= 10; round += 1) {
      for (const token of tokens)
        expect(await manager.modifyState(token, (counter) => (counter.count += 1))).toBe(round);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    expect(logs.errors.filter((line) => line.includes('could not be written'))).toHaveLength(1);
    freeBytes = Number.MAX_SAFE_INTEGER;
    await manager.onModuleDestroy();
    const again = await openDiskManager(folder.path);
    for (const token of tokens) expect((await again.getState(token)).count).toBe(10);
    await again.onModuleDestroy();
  });

  it('is tried again under flushInterval with what is read while it is refused', async () => {
    await using folder = await DiskFolder.create();
    RecordedLogs.start();
    const asked = new Gate();
    const answered = new Gate();
    let freeBytes = 0;
    const clock = new FakeClock();
    const options = { disk: { flushInterval: 20 } };
    const manager = await openDiskManager(folder.path, options, clock, undefined, async () => {
      asked.open();
      await answered.opened;
      return freeBytes;
    });
    const token = new StateToken('ident', CounterState);
    await manager.modifyState(token, (counter) => void (counter.count = 3));
    await clock.advance(20);
    await asked.opened;
    // That it is used is to be written as well, and as soon as what is being written is there.
    expect((await manager.getState(token)).count).toBe(3);
    await clock.advance(1_000);
    answered.open();
    await tick();
    freeBytes = Number.MAX_SAFE_INTEGER;
    await manager.onModuleDestroy();

    const again = await openDiskManager(folder.path);
    expect((await again.getState(token)).count).toBe(3);
    await again.onModuleDestroy();
  });

  it('ends the shutdown when it cannot even be begun', async () => {
    await using folder = await DiskFolder.create();
    const logs = RecordedLogs.start();
    const manager = await openDiskManager(folder.path, { disk: { flushInterval: '1h' } });
    await manager.modifyState(new StateToken('ident', CounterState), (counter) => void (counter.count = 3));
    const encode = jest.spyOn(StateCodec.prototype, 'encode').mockImplementation(() => {
      throw new Error('no form for it');
    });
    await manager.onModuleDestroy();
    encode.mockRestore();
    expect(logs.errors.join()).toContain('The last states could not be written. Error: no form for it');
  });
});

import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it, jest } from '@jest/globals';
import { StateStoreUnavailableError, StateToken, type StateModuleOptions } from 'nestjs-state';
import { StoreCheck } from '../../lib/managers/disk/store-check.js';
import { StoreOwner } from '../../lib/managers/disk/store-owner.js';
import { failureOf, Gate, type OpenManager } from '../conformance/harness.js';
import { CounterState } from '../conformance/states.js';
import { DiskFolder } from '../support/disk-folder.js';
import { checkLedger } from '../support/ledger.js';
import { openDiskManager } from '../support/manager-disk.js';
import { ManagerWorker, type TurnRecord } from '../support/manager-worker.js';
import { until } from '../support/redis-server.js';

const IDENTS = Array.from({ length: 12 }, (_, number) => `killed-${number}`);
const nowMs = (): number => Number(process.hrtime.bigint()) / 1e6;

function onDisk({ path }: DiskFolder, disk: StateModuleOptions['disk'] = {}): StateModuleOptions {
  return { mode: 'disk', disk: { path, ...disk } };
}

/** Runs `meanwhile` in the place of the next read of the whole file. */
function whenTheFileIsRead(
  meanwhile: (read: () => Promise<string | undefined>) => Promise<string | undefined>,
) {
  const check = StoreCheck.prototype as unknown as { hash(): Promise<string | undefined> };
  const { hash } = check;
  return jest.spyOn(check, 'hash').mockImplementationOnce(function (this: typeof check) {
    return meanwhile(() => hash.call(this));
  });
}

describe('Processes on a disk', () => {
  it('that are killed lose no turn that was acknowledged, however often that happens', async () => {
    await using folder = await DiskFolder.create();
    const records: TurnRecord[] = [];
    for (let round = 0; round < 3; round += 1) {
      await using worker = await ManagerWorker.start(`round-${round}`, onDisk(folder));
      const running = worker.run({ tasks: 24, idents: IDENTS }).catch(() => undefined);
      // A busy machine, or a slow disk, gets fewer of them done in the same time.
      await until('turns are acknowledged', async () => worker.records.length > 100);
      await delay(Math.random() * 300);
      await worker.kill();
      await running;
      records.push(...worker.records);
    }
    await using reader = await ManagerWorker.start('reader', onDisk(folder));
    let acknowledged = 0;
    for (const ident of IDENTS) {
      const account = checkLedger(ident, await reader.read(ident), records);
      acknowledged += account.acknowledged;
      // What was on its way when its process died may be stored, and nothing else.
      expect(account.stored).toBeGreaterThanOrEqual(account.acknowledged);
    }
    expect(acknowledged).toBeGreaterThan(200);
  });

  it('with flushInterval lose at most that much when they are killed, and the last of it', async () => {
    await using folder = await DiskFolder.create();
    const flushIntervalMs = 250;
    const worker = await ManagerWorker.start('lazy', onDisk(folder, { flushInterval: flushIntervalMs }));
    const running = worker.run({ tasks: 4, idents: IDENTS, restMs: 2 }).catch(() => undefined);
    await delay(2_500);
    const killedAtMs = nowMs();
    await worker.kill();
    await running;
    await using reader = await ManagerWorker.start('reader', onDisk(folder));
    const stored = new Set<string>();
    for (const ident of IDENTS) {
      const { count, entries } = await reader.read(ident);
      expect(entries).toHaveLength(count);
      for (const id of entries) stored.add(id);
      const acknowledged = worker.records.filter(
        (record) => record.ident === ident && record.outcome === 'stored',
      );
      const lost = acknowledged.filter(({ id }) => !stored.has(id));
      // In the order in which they were made nothing is missing in the middle.
      for (const { value } of lost) expect(value).toBeGreaterThan(count);
    }
    const acknowledged = worker.records.filter(({ outcome }) => outcome === 'stored');
    const lost = acknowledged.filter(({ id }) => !stored.has(id));
    expect(acknowledged.length).toBeGreaterThan(lost.length);
    // The write itself takes its time, on a machine that has other things to do.
    for (const { endMs } of lost) expect(killedAtMs - endMs).toBeLessThan(flushIntervalMs + 750);
  });

  it('with flushInterval lose nothing at an orderly end', async () => {
    await using folder = await DiskFolder.create();
    const worker = await ManagerWorker.start('lazy', onDisk(folder, { flushInterval: '1h' }));
    await worker.run({ tasks: 8, idents: IDENTS, turns: 50 });
    await worker.close();
    await using reader = await ManagerWorker.start('reader', onDisk(folder));
    let stored = 0;
    for (const ident of IDENTS) stored += checkLedger(ident, await reader.read(ident), worker.records).stored;
    expect(stored).toBe(400);
  });

  it('are the only ones: a second one is refused while the first is there, stopped or not, and no longer', async () => {
    await using folder = await DiskFolder.create();
    await using first = await ManagerWorker.start('first', onDisk(folder));
    const refusal = await failureOf(openDiskManager(folder.path));
    expect(refusal).toBeInstanceOf(StateStoreUnavailableError);
    expect((refusal as Error).message).toMatch(/Another process uses the states in .*disk\.path.*Redis/s);
    await expect(ManagerWorker.start('second', onDisk(folder))).rejects.toThrow(
      /Another process uses the states/,
    );

    first.pause();
    await expect(openDiskManager(folder.path)).rejects.toThrow(/Another process uses the states/);
    first.resume();
    await first.run({ tasks: 1, idents: ['still-there'], turns: 3 });

    await first.kill();
    const next = await openDiskManager(folder.path);
    expect(await next.count()).toBe(1);
    await next.onModuleDestroy();
  });

  it('that come at the same time let exactly one of them in, each time', async () => {
    await using folder = await DiskFolder.create();
    for (let round = 0; round < 3; round += 1) {
      const outcomes = await Promise.allSettled([
        ...Array.from({ length: 4 }, () => openDiskManager(folder.path)),
        ...[1, 2].map((number) => ManagerWorker.start(`racer-${number}`, onDisk(folder))),
      ]);
      const winners = outcomes.filter((outcome) => outcome.status === 'fulfilled');
      expect(winners).toHaveLength(1);
      for (const outcome of outcomes)
        if (outcome.status === 'rejected') expect(String(outcome.reason)).toMatch(/Another process uses/);
      const { value } = winners[0] as (typeof winners)[0];
      if (value instanceof ManagerWorker) await (round % 2 === 0 ? value.kill() : value.close());
      else await value.onModuleDestroy();
    }
  });

  it('that close have the store until it is marked as closed', async () => {
    await using folder = await DiskFolder.create();
    const first = await openDiskManager(folder.path);
    await first.setState(new StateToken('ident', CounterState), { count: 1 } as CounterState);
    // Making the mark takes as long as a read of the file: whoever comes meanwhile would be told that it is damaged.
    const [marking, gate] = [new Gate(), new Gate()];
    const makeMark = StoreCheck.prototype.closed;
    const held = jest.spyOn(StoreCheck.prototype, 'closed').mockImplementation(async function (
      this: StoreCheck,
    ) {
      marking.open();
      await gate.opened;
      await makeMark.call(this);
    });
    const closing = first.onModuleDestroy();
    await marking.opened;
    await expect(openDiskManager(folder.path)).rejects.toThrow(/Another process uses the states/);
    gate.open();
    await closing;
    held.mockRestore();

    const next = await openDiskManager(folder.path);
    expect(await next.count()).toBe(1);
    await next.onModuleDestroy();
  });

  it('take the file of one that closes while they look at it for no damaged one', async () => {
    await using folder = await DiskFolder.create();
    const token = new StateToken('ident', CounterState);
    const before = await openDiskManager(folder.path);
    const looking = whenTheFileIsRead(async (read) => {
      const seen = await read();
      await before.modifyState(token, (counter) => counter.increment());
      await before.onModuleDestroy();
      return seen;
    });
    const next = await openDiskManager(folder.path);
    looking.mockRestore();

    expect((await next.getState(token)).count).toBe(1);
    await next.onModuleDestroy();
  });

  it('take the file of one that begins while they look at it for no damaged one', async () => {
    await using folder = await DiskFolder.create();
    const token = new StateToken('ident', CounterState);
    const first = await openDiskManager(folder.path);
    await first.modifyState(token, (counter) => counter.increment());
    await first.onModuleDestroy();
    const others: OpenManager[] = [];
    const looking = whenTheFileIsRead(async (read) => {
      const other = await openDiskManager(folder.path);
      others.push(other);
      await other.modifyState(token, (counter) => counter.increment());
      return read();
    });
    await expect(openDiskManager(folder.path)).rejects.toThrow(/Another process uses the states/);
    looking.mockRestore();
    await Promise.all(others.map((other) => other.onModuleDestroy()));
  });

  it('store nothing any more when another one has taken over, which could not see that they are there', async () => {
    await using folder = await DiskFolder.create();
    const token = new StateToken('ident', CounterState);
    const first = await openDiskManager(folder.path);
    await first.modifyState(token, (counter) => counter.increment());
    // As on another machine that shares the folder, or when somebody cleans up.
    for (const file of await readdir(folder.path))
      if (file.endsWith('.sock')) await rm(join(folder.path, file));
    const other = await openDiskManager(folder.path);
    await other.modifyState(token, (counter) => counter.increment());

    const refused = await failureOf(first.modifyState(token, (counter) => void (counter.count = 100)));
    expect(refused).toBeInstanceOf(StateStoreUnavailableError);
    expect(String(refused)).toContain('taken over');
    await first.onModuleDestroy();
    await other.modifyState(token, (counter) => counter.increment());
    await other.onModuleDestroy();
    const next = await openDiskManager(folder.path);
    expect((await next.getState(token)).count).toBe(3);
    await next.onModuleDestroy();
  });

  it('take the mark of the last one away before they write anything', async () => {
    await using folder = await DiskFolder.create();
    await (await openDiskManager(folder.path)).onModuleDestroy();
    const files: string[] = [];
    const claim = jest.spyOn(StoreOwner, 'claim').mockImplementation(async () => {
      files.push(...(await readdir(folder.path)));
      throw new Error('killed');
    });
    await failureOf(openDiskManager(folder.path));
    claim.mockRestore();

    expect(files).toContain('data.mdb');
    expect(files).not.toContain('closed.sha256');
    const next = await openDiskManager(folder.path);
    await next.onModuleDestroy();
  });
});

import { mkdir, statfs } from 'node:fs/promises';
import { resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { StateRecord } from '../../internal/state-codec.js';
import { StateError, StateStoreUnavailableError } from '../../state.errors.js';
import { loadLmdb, type LmdbDatabase, type LmdbRoot } from './lmdb-package.js';
import { StoreCheck } from './store-check.js';
import { StoreOwner } from './store-owner.js';

/** What says that a store is ours, and how it is written. */
const FORMAT = 'nestjs-state 1';
const META = 'meta';
const STATES = 'states';
const IDENTS = 'idents';
const OURS: ReadonlySet<string> = new Set([META, STATES, IDENTS]);

const SEPARATOR = '/';
const AFTER_SEPARATOR = '0';
const TAKEN_OVER =
  'States could not be written to disk: another process has taken over their folder, because it could not see this one. ' +
  'Nothing of this one is stored any more.';
/** What a field starts with that is kept aside and is no state. */
const ASIDE = '~';

/**
 * How much room the disk has to have left after a write, in bytes. What the system refuses in the middle of a transaction
 * can end the process: LMDB writes its message about it over the end of a buffer.
 */
const RESERVE_BYTES = 16 * 1_048_576;
/** What a write may take for each record, beside the record: pages of the tree, in bytes. */
const PAGES_BYTES = 32_768;
/** How long the room that was seen counts, in milliseconds, and how much of it may be taken meanwhile, in bytes. */
const ROOM_COUNTS_MS = 100;
const ROOM_TAKEN_BYTES = 1_048_576;

/** How long the reason of a failure is waited for, in milliseconds. */
const REASON_MS = 100;

/** When an ident was used last, by the wall clock in milliseconds, and which states it has. */
export interface IdentUse {
  readonly usedAtMs: number;
  readonly names: readonly string[];
}

/** What is to be written of one ident. */
export interface IdentWrite {
  readonly hash: string;
  /** Everything stored goes first. */
  readonly replaces: boolean;
  /** Names and records, in turn. */
  readonly fields: readonly StateRecord[];
  /** `undefined` when nothing is left. */
  readonly use: IdentUse | undefined;
}

/**
 * States in the files of one folder: by the hash of their ident, since whoever can read them must not be able to use it.
 *
 * Guarantee: what was written together is there together or not at all, and is on the disk when `write` resolves.
 */
export class DiskStore {
  private readonly meta: LmdbDatabase;
  private readonly states: LmdbDatabase;
  private readonly idents: LmdbDatabase;
  private owner: StoreOwner | undefined;
  private roomSeenAtMs = -Infinity;
  private takenBytes = 0;

  private constructor(
    private readonly root: LmdbRoot,
    private readonly check: StoreCheck,
    private readonly freeBytes: () => Promise<number>,
  ) {
    const open = (name: string): LmdbDatabase => root.openDB({ name, encoding: 'binary' });
    this.meta = open(META);
    this.states = open(STATES);
    this.idents = open(IDENTS);
  }

  /**
   * Opens the store in `path`, which is made if it is not there. `freeBytes` says how much room its disk has left.
   *
   * @throws {StateStoreUnavailableError} when it is in use, damaged, or something else; nothing of it is changed then.
   */
  static async open(path: string, freeBytes?: () => Promise<number>): Promise<DiskStore> {
    const folder = resolve(path);
    const lmdb = loadLmdb();
    let root: LmdbRoot | undefined;
    try {
      await mkdir(folder, { recursive: true, mode: 0o700 });
      const check = new StoreCheck(folder);
      await check.assertReadable();
      root = lmdb.open({
        path: folder,
        maxDbs: 8,
        noSubdir: false,
        encoding: 'binary',
        // The promise of a batch of its own would end the process when a write fails, as nobody can get hold of it.
        eventTurnBatching: false,
      });
      assertOurs(root, folder);
      const store = new DiskStore(root, check, freeBytes ?? (() => freeBytesOf(folder)));
      // Before the first word is written: who is killed in between would leave a mark of what is not there any more.
      await check.opened();
      store.owner = await StoreOwner.claim(folder, {
        read: () => store.readOwner(),
        replace: (known, next) => store.replaceOwner(known, next),
      });
      return store;
    } catch (cause) {
      await root?.close();
      if (cause instanceof StateError) throw cause;
      throw new StateStoreUnavailableError(`The states in ${folder} cannot be opened: ${messageOf(cause)}`, {
        cause,
      });
    }
  }

  /** All idents, in no order. One whose entry cannot be read has been used just now. */
  *uses(nowMs: number): Iterable<[hash: string, use: IdentUse]> {
    for (const { key, value } of this.idents.getRange())
      yield [key, parseUse(value) ?? { usedAtMs: nowMs, names: this.namesOf(key) }];
  }

  use(hash: string): IdentUse | undefined {
    return this.reading(() => {
      const value = this.idents.getBinary(hash);
      return value && parseUse(value);
    });
  }

  /** The record of a state. @throws {StateStoreUnavailableError} */
  read(hash: string, name: string): Buffer | undefined {
    return this.reading(() => this.states.getBinary(hash + SEPARATOR + name));
  }

  /** Writes all of it, or nothing. @throws {StateStoreUnavailableError} when nothing is written, for example without space. */
  async write(writes: readonly IdentWrite[]): Promise<void> {
    await this.assertRoom(writes);
    if (!this.isOwned) throw new StateStoreUnavailableError(TAKEN_OVER);
    const { root } = this;
    // Of a transaction that fails every single write rejects, most often with the same promise.
    const all = new Set<Promise<unknown>>();
    try {
      all.add(
        root.batch(() => {
          for (const write of writes) this.put(write, all);
        }),
      );
      const outcomes = await Promise.allSettled(all);
      const failed = outcomes.find(({ status }) => status === 'rejected');
      if (failed !== undefined) throw await reasonOf(failed as PromiseRejectedResult);
      await root.flushed;
    } catch (cause) {
      throw new StateStoreUnavailableError(`States could not be written to disk: ${messageOf(cause)}`, {
        cause,
      });
    } finally {
      // Reads of one tick see the same, and somebody may have read in this one before it was written.
      root.resetReadTxn();
    }
  }

  /** Nobody reads or writes any more. Another process may have the store afterwards. */
  async close(): Promise<void> {
    let isOwned = false;
    try {
      try {
        ({ isOwned } = this);
      } finally {
        await this.root.close();
      }
      // Whoever has taken it over goes on to write.
      if (isOwned) await this.check.closed();
    } finally {
      // Last: whoever has the store before the mark is made would be told by it that the file is damaged.
      await this.owner?.close();
    }
  }

  /** @throws {StateStoreUnavailableError} when the disk is as good as full. What only removes is written all the same. */
  private async assertRoom(writes: readonly IdentWrite[]): Promise<void> {
    let bytes = 0;
    for (const { fields } of writes)
      for (let index = 1; index < fields.length; index += 2)
        bytes += PAGES_BYTES + Buffer.byteLength(fields[index] as StateRecord);
    if (bytes === 0) return;
    this.takenBytes += bytes;
    const nowMs = performance.now();
    if (nowMs - this.roomSeenAtMs < ROOM_COUNTS_MS && this.takenBytes < ROOM_TAKEN_BYTES) return;
    if ((await this.freeBytes()) < RESERVE_BYTES + bytes) {
      this.roomSeenAtMs = -Infinity;
      throw new StateStoreUnavailableError(
        `States could not be written to disk: less than ${RESERVE_BYTES / 1_048_576} MB would be left on it. Make room.`,
      );
    }
    this.roomSeenAtMs = nowMs;
    this.takenBytes = 0;
  }

  private put({ hash, replaces, fields, use }: IdentWrite, all: Set<Promise<unknown>>): void {
    const { states, idents } = this;
    if (replaces) for (const key of this.keysOf(hash)) all.add(states.remove(key));
    for (let index = 0; index < fields.length; index += 2)
      all.add(
        states.put(hash + SEPARATOR + String(fields[index]), bytesOf(fields[index + 1] as StateRecord)),
      );
    all.add(
      use === undefined
        ? idents.remove(hash)
        : idents.put(hash, Buffer.from(JSON.stringify([use.usedAtMs, ...use.names]))),
    );
  }

  private keysOf(hash: string): string[] {
    return [...this.states.getKeys({ start: hash + SEPARATOR, end: hash + AFTER_SEPARATOR })];
  }

  private namesOf(hash: string): string[] {
    return this.keysOf(hash)
      .map((key) => key.slice(hash.length + SEPARATOR.length))
      .filter((name) => !name.startsWith(ASIDE));
  }

  /** Whether no other process has put itself in the place of this one: it could not see that it is there. */
  private get isOwned(): boolean {
    return this.reading(() => this.readOwner()) === this.owner?.name;
  }

  private readOwner(): string | undefined {
    this.root.resetReadTxn();
    return this.meta.getBinary('owner')?.toString() || undefined;
  }

  private replaceOwner(known: string | undefined, next: string): boolean {
    return this.root.transactionSync(() => {
      if ((this.meta.getBinary('owner')?.toString() || undefined) !== known) return false;
      void this.meta.put('format', Buffer.from(FORMAT));
      void this.meta.put('owner', Buffer.from(next));
      return true;
    });
  }

  private reading<T>(read: () => T): T {
    try {
      return read();
    } catch (cause) {
      throw new StateStoreUnavailableError(`States could not be read from disk: ${messageOf(cause)}`, {
        cause,
      });
    }
  }
}

async function freeBytesOf(folder: string): Promise<number> {
  const { bavail, bsize } = await statfs(folder);
  return bavail * bsize;
}

function assertOurs(root: LmdbRoot, folder: string): void {
  const names = [...root.getKeys()].map(String);
  const contentOf = (name: string): LmdbDatabase => root.openDB({ name, encoding: 'binary' });
  const isOurs = names.every((name) => OURS.has(name));
  const format = isOurs && names.includes(META) ? contentOf(META).getBinary('format')?.toString() : undefined;
  if (format === FORMAT) return;
  // A process that was killed at its first start may have left the databases without a word in them.
  if (isOurs && names.every((name) => [...contentOf(name).getKeys()].length === 0)) return;
  throw new StateStoreUnavailableError(
    `${folder} holds ${format === undefined ? 'a database of something else' : `states of another version (${format})`}. It ` +
      'is kept as it is. Choose another `disk.path` (STATE_DISK_PATH).',
  );
}

function parseUse(value: Buffer): IdentUse | undefined {
  let content: unknown;
  try {
    content = JSON.parse(value.toString());
  } catch {
    return undefined;
  }
  if (!Array.isArray(content)) return undefined;
  const [usedAtMs, ...names] = content as unknown[];
  return Number.isFinite(usedAtMs) && names.every((name) => typeof name === 'string')
    ? { usedAtMs: usedAtMs as number, names: names as string[] }
    : undefined;
}

/** Why a transaction has failed: LMDB says so a little later than that it has. */
async function reasonOf({ reason }: PromiseRejectedResult): Promise<unknown> {
  const { commitError } = reason as { commitError?: Promise<never> };
  if (commitError === undefined) return reason;
  const told = commitError.catch((error: unknown) => error);
  return (await Promise.race([told, delay(REASON_MS)])) ?? reason;
}

function bytesOf(record: StateRecord): Buffer {
  return typeof record === 'string' ? Buffer.from(record) : record;
}

function messageOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}

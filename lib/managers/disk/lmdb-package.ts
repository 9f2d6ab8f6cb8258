import { createRequire } from 'node:module';
import { InvalidStateOptionsError } from '../../state.errors.js';

/** One named database, as much of it as is used. */
export interface LmdbDatabase {
  getBinary(key: string): Buffer | undefined;
  getKeys(range?: { readonly start: string; readonly end: string }): Iterable<string>;
  getRange(): Iterable<{ readonly key: string; readonly value: Buffer }>;
  put(key: string, value: Buffer): Promise<boolean>;
  remove(key: string): Promise<boolean>;
}

/** An open store. Told by its shape, so that an application without that package compiles against this one. */
export interface LmdbRoot extends LmdbDatabase {
  /** Settles when everything that was committed is on the disk. */
  readonly flushed: Promise<boolean>;
  openDB(options: { readonly name: string; readonly encoding: 'binary' }): LmdbDatabase;
  /** Writes that are committed together. */
  batch(action: () => void): Promise<boolean>;
  /** Runs `action` while no other process writes; what it writes is on the disk afterwards. */
  transactionSync<T>(action: () => T): T;
  /** Lets the next read see the last commit. */
  resetReadTxn(): void;
  close(): Promise<void>;
}

interface LmdbOptions {
  readonly path: string;
  readonly maxDbs: number;
  readonly noSubdir: false;
  readonly eventTurnBatching: false;
  readonly encoding: 'binary';
}

/** What the package lmdb is needed for. */
export interface LmdbPackage {
  open(options: LmdbOptions): LmdbRoot;
}

// Not imported: the types it comes with do not compile in a module without `skipLibCheck`.
const require = createRequire(import.meta.url);

/** @throws {InvalidStateOptionsError} when the package is not installed. */
export function loadLmdb(): LmdbPackage {
  try {
    return require('lmdb') as LmdbPackage;
  } catch (cause) {
    const problem = 'mode: the disk manager needs the package lmdb. Install it: npm install lmdb.';
    throw Object.assign(new InvalidStateOptionsError([problem]), { cause });
  }
}

/** Where that package is, for another process. */
export function lmdbPath(): string {
  return require.resolve('lmdb');
}

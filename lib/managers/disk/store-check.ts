import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { StateStoreUnavailableError } from '../../state.errors.js';
import { lmdbPath } from './lmdb-package.js';

/** Reads everything there is, and tries where a write would find its place. Plain JavaScript: it is run by a process of its own. */
const READ_ALL = `
const { open, ABORT } = require(process.argv[1]);
const root = open({ path: process.argv[2], maxDbs: 8, noSubdir: false, encoding: 'binary' });
let bytes = 0;
for (const name of root.getKeys()) {
  const database = root.openDB({ name, encoding: 'binary' });
  for (const { value } of database.getRange()) for (let at = 0; at < value.length; at += 4096) bytes += value[at];
}
root.transactionSync(() => {
  root.put('written by nobody', Buffer.alloc(100_000));
  return ABORT;
});
root.close();
`;

/** What a store was like when it was closed in order: its hash. */
const MARK = 'closed.sha256';
const DATA = 'data.mdb';
/** How much is read at once, in bytes. */
const CHUNK_BYTES = 1_048_576;
/** How much of what the other process complains of is looked at, in characters. */
const LONGEST_COMPLAINT = 4_096;

/**
 * Whether a store can be read. Its pages carry no checksums and are mapped into memory: a damaged one can end the process
 * that reads it. So it has to be what it was when it was closed in order; one that was not is read by another process first.
 *
 * Cost: a read of the whole file at start and at shutdown; a further one, and a process, after a crash.
 */
export class StoreCheck {
  constructor(private readonly folder: string) {}

  /** @throws {StateStoreUnavailableError} when the store is damaged, or none of LMDB. Nothing of it is changed. */
  async assertReadable(): Promise<void> {
    // Before the file: whoever closes it meanwhile makes a mark of what is not read here any more.
    const mark = await this.mark();
    const seen = await this.hash();
    if (seen === undefined || seen === mark) return;
    // Whoever has opened it meanwhile has taken the mark away.
    if (mark !== undefined && mark === (await this.mark())) {
      throw this.refusal(
        `is not what it was when it was closed: it is damaged, or was replaced. If you have replaced it, delete ${MARK} beside it`,
      );
    }
    const complaint = await this.readAll();
    if (complaint !== undefined)
      throw this.refusal(`is damaged, or no store of this library: it could not be read (${complaint})`);
  }

  /** From here on the store may change. */
  async opened(): Promise<void> {
    await rm(join(this.folder, MARK), { force: true });
  }

  /** Everything is written, and nobody writes any more. */
  async closed(): Promise<void> {
    const seen = await this.hash();
    if (seen !== undefined) await writeFile(join(this.folder, MARK), seen, { mode: 0o600 });
  }

  private refusal(problem: string): StateStoreUnavailableError {
    return new StateStoreUnavailableError(
      `${join(this.folder, DATA)} ${problem}. It is kept as it is. Put a copy back, move it away, or choose another \`disk.path\`.`,
    );
  }

  /** Of all that is there; `undefined` when there is nothing. */
  private async hash(): Promise<string | undefined> {
    const hash = createHash('sha256');
    let size = 0;
    try {
      for await (const chunk of createReadStream(join(this.folder, DATA), { highWaterMark: CHUNK_BYTES })) {
        hash.update(chunk as Buffer);
        size += (chunk as Buffer).length;
      }
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
    return size === 0 ? undefined : hash.digest('hex');
  }

  private async mark(): Promise<string | undefined> {
    try {
      return await readFile(join(this.folder, MARK), 'utf8');
    } catch {
      return undefined;
    }
  }

  /** What went wrong, or `undefined`. */
  private readAll(): Promise<string | undefined> {
    return new Promise((resolve, reject) => {
      const child = spawn(process.execPath, ['-e', READ_ALL, lmdbPath(), this.folder], {
        stdio: ['ignore', 'ignore', 'pipe'],
        // Without what this process, and not the other one, is to be started with: an inspector, a loader.
        env: { ...process.env, NODE_OPTIONS: '' },
      });
      let complaint = '';
      child.stderr.setEncoding('utf8').on('data', (text: string) => {
        if (complaint.length < LONGEST_COMPLAINT) complaint += text;
      });
      child.on('error', reject);
      child.on('close', (code, signal) => {
        if (code === 0) resolve(undefined);
        else resolve(signal ?? /Error: .*/.exec(complaint)?.[0] ?? `exit code ${code}`);
      });
    });
  }
}

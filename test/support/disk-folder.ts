import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** A folder for a store, gone with the test. */
export class DiskFolder implements AsyncDisposable {
  private constructor(readonly path: string) {}

  static async create(): Promise<DiskFolder> {
    return new DiskFolder(await mkdtemp(join(tmpdir(), 'nestjs-state-disk-')));
  }

  /** The file that holds the states. */
  get data(): string {
    return join(this.path, 'data.mdb');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.path, { recursive: true, force: true });
  }
}

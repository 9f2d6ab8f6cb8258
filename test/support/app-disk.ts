import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll } from '@jest/globals';
import { keepStatesIn } from './app.js';

/** From now on the applications of this test file keep their states on disk, each in a folder of its own. */
export function keepStatesOnDisk(): void {
  const parent = mkdtempSync(join(tmpdir(), 'nestjs-state-disk-'));
  let applications = 0;
  keepStatesIn(() => ({ mode: 'disk', disk: { path: join(parent, String((applications += 1))) } }));
  afterAll(() => rmSync(parent, { recursive: true, force: true }));
}

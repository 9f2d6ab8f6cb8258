import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { StateModuleOptions } from 'nestjs-state';
import { FakeClock } from '../support/fake-clock.js';
import { openDiskManager } from '../support/manager-disk.js';
import { passTime, type ConformanceHarness, type OpenManager } from './harness.js';

/** What the suites need of the disk manager: each `open` has a folder of its own. */
export function diskHarness(
  name: string,
  clock: ConformanceHarness['clock'],
  defaults: StateModuleOptions = {},
): ConformanceHarness {
  const opened: OpenManager[] = [];
  const folders: string[] = [];
  let fakeClock = new FakeClock();
  // The disk takes its time, and what it was waited for with comes due after the clock was moved.
  let pump: NodeJS.Timeout | undefined;
  return {
    name,
    mode: 'disk',
    clock,
    async open(options) {
      if (clock === 'fake') pump ??= setInterval(() => void fakeClock.advance(0), 1);
      const folder = await mkdtemp(join(tmpdir(), 'nestjs-state-disk-'));
      folders.push(folder);
      const merged = { ...defaults, ...options, disk: { ...defaults.disk, ...options?.disk } };
      const manager = await openDiskManager(folder, merged, clock === 'fake' ? fakeClock : undefined);
      opened.push(manager);
      return manager;
    },
    async advance(ms) {
      await (clock === 'fake' ? fakeClock.advance(ms) : passTime(ms));
    },
    block(ms) {
      if (clock === 'fake') fakeClock.block(ms);
      else for (const endMs = performance.now() + ms; performance.now() < endMs;);
    },
    async close() {
      const closing = Promise.all(opened.splice(0).map((manager) => manager.onModuleDestroy()));
      // Whatever a failed test left open is not waited for.
      if (clock === 'fake') await fakeClock.advance(3_600_000);
      await closing;
      clearInterval(pump);
      pump = undefined;
      fakeClock = new FakeClock();
      await Promise.all(folders.splice(0).map((folder) => rm(folder, { recursive: true, force: true })));
    },
  };
}

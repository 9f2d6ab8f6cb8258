import type { StateModuleOptions } from 'nestjs-state';
import { DiskFolder } from '../support/disk-folder.js';
import { openDiskManager } from '../support/manager-disk.js';
import type { ConformanceHarness } from './harness.js';
import { localHarness } from './local-harness.js';

/** What the suites need of the disk manager: each `open` has a folder of its own. */
export function diskHarness(
  name: string,
  clock: ConformanceHarness['clock'],
  defaults: StateModuleOptions = {},
): ConformanceHarness {
  const folders: DiskFolder[] = [];
  return localHarness({
    name,
    mode: 'disk',
    clock,
    takesRealTime: true,
    async open(options, fakeClock) {
      const folder = await DiskFolder.create();
      folders.push(folder);
      const merged = { ...defaults, ...options, disk: { ...defaults.disk, ...options?.disk } };
      return openDiskManager(folder.path, merged, fakeClock);
    },
    async clear() {
      await Promise.all(folders.splice(0).map((folder) => folder[Symbol.asyncDispose]()));
    },
  });
}

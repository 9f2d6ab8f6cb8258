import { SchedulerRegistry } from '@nestjs/schedule';
import type { StateModuleOptions } from 'nestjs-state';
import type { Clock } from '../../lib/internal/clock.js';
import { DiskStateManager } from '../../lib/managers/disk/disk-state.manager.js';
import { resolveStateOptions } from '../../lib/state.options.resolve.js';

/** A disk manager on the store in `path`, ready for use. */
export async function openDiskManager(
  path: string,
  options: StateModuleOptions = {},
  clock?: Clock,
  wallClockMs?: () => number,
  freeBytes?: () => Promise<number>,
): Promise<DiskStateManager> {
  const resolved = resolveStateOptions(
    { mode: 'disk', ...options, disk: { path, ...options.disk } },
    () => undefined,
  );
  const registry = new SchedulerRegistry();
  const manager = new DiskStateManager(resolved, () => registry, clock, wallClockMs, freeBytes);
  await manager.onModuleInit();
  return manager;
}

import { SchedulerRegistry } from '@nestjs/schedule';
import type { StateModuleOptions } from 'nestjs-state';
import { SystemClock, type Clock } from '../../lib/internal/clock.js';
import { MemoryStateManager } from '../../lib/managers/memory/memory-state.manager.js';
import { resolveStateOptions } from '../../lib/state.options.resolve.js';

/** A memory manager as the module would make it, open, with no environment to read. */
export async function openMemoryManager(
  options: StateModuleOptions = {},
  clock: Clock = new SystemClock(),
  registry: SchedulerRegistry = new SchedulerRegistry(),
): Promise<MemoryStateManager> {
  const resolved = resolveStateOptions({ mode: 'memory', ...options }, () => undefined);
  const manager = new MemoryStateManager(resolved, () => registry, clock);
  await manager.onModuleInit();
  return manager;
}

import type { StateModuleOptions } from 'nestjs-state';
import { RedisStateManager } from '../../lib/managers/redis/redis-state.manager.js';
import { resolveStateOptions } from '../../lib/state.options.resolve.js';

/** A redis manager as the module would make it, open, with no environment to read. */
export async function openRedisManager(options: StateModuleOptions): Promise<RedisStateManager> {
  const manager = new RedisStateManager(resolveStateOptions({ mode: 'redis', ...options }, () => undefined));
  await manager.onModuleInit();
  return manager;
}

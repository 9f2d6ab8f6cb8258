import type { StateModuleOptions } from 'nestjs-state';
import { openRedisManager } from '../support/manager-redis.js';
import { blockLoop, passTime, type ConformanceHarness, type OpenManager } from './harness.js';

/** A Redis that the suites may use as they like. */
export interface ConformanceRedis {
  /** How a manager reaches it. */
  options(): StateModuleOptions['redis'];
  /** Deletes everything in it. */
  flush(): Promise<unknown>;
}

/** What the suites need of the redis manager on a server that is running while they do. */
export function redisHarness(
  name: string,
  redis: () => ConformanceRedis,
  {
    sharesStore = true,
    losesMessages = false,
    defaults = {},
  }: { sharesStore?: boolean; losesMessages?: boolean; defaults?: StateModuleOptions } = {},
): ConformanceHarness {
  const opened: OpenManager[] = [];
  const open = async (options: StateModuleOptions = {}): Promise<OpenManager> => {
    const manager = await openRedisManager({
      ...defaults,
      ...options,
      redis: { ...redis().options(), ...defaults.redis, ...options.redis },
    });
    opened.push(manager);
    return manager;
  };
  return {
    name,
    mode: 'redis',
    clock: 'real',
    losesMessages,
    open,
    ...(sharesStore && { openSecond: open }),
    advance: (ms) => passTime(ms),
    block: blockLoop,
    async close() {
      await Promise.all(opened.splice(0).map((manager) => manager.onModuleDestroy()));
      await redis().flush();
    },
  };
}

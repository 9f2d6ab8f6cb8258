import { RedisProxy } from '../support/redis-proxy.js';
import { RedisServer } from '../support/redis-server.js';
import type { ConformanceRedis } from './redis-harness.js';

const PASSWORD = 'not-a-secret';

/** All that a Redis user needs for it, as the README has it. */
export const RIGHTS =
  '~state:* &state:* +eval +evalsha +get +set +del +exists +pexpire +pttl +hget +hset +hgetall +zadd +zrem +zcard +zscore ' +
  '+zrange +zrevrange +zpopmin +zremrangebyscore +publish +subscribe +scan +info';

/** A server where the application is a user without CONFIG, and where every message is dropped. */
export class GuardedRedis implements ConformanceRedis, AsyncDisposable {
  private constructor(
    private readonly server: RedisServer,
    private readonly proxy: RedisProxy,
  ) {}

  static async start(): Promise<GuardedRedis> {
    const server = await RedisServer.start({
      users: ['user default off', `user app on >${PASSWORD} ${RIGHTS}`],
    });
    return new GuardedRedis(server, await RedisProxy.start(server.port, { dropPubSub: true }));
  }

  options() {
    return { url: `redis://app:${PASSWORD}@127.0.0.1:${this.proxy.port}` };
  }

  flush(): Promise<void> {
    return this.server.flush();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.proxy[Symbol.asyncDispose]();
    await this.server[Symbol.asyncDispose]();
  }
}

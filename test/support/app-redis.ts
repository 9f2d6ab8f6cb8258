import { afterAll, beforeAll } from '@jest/globals';
import { keepStatesIn } from './app.js';
import { RedisServer } from './redis-server.js';

/** From now on the applications of this test file keep their states on a Redis of their own: that one. */
export function keepStatesInRedis(): () => RedisServer {
  let server: RedisServer;
  beforeAll(async () => {
    server = await RedisServer.start();
  });
  afterAll(() => server[Symbol.asyncDispose]());
  // Each application starts with nothing, as one in memory does.
  let applications = 0;
  keepStatesIn(() => ({
    mode: 'redis',
    redis: { url: server.url, keyPrefix: `app-${(applications += 1)}:` },
  }));
  return () => server;
}

import { afterAll, beforeAll } from '@jest/globals';
import { RedisServer } from '../support/redis-server.js';
import { describeConformance } from './conformance.js';
import { redisHarness } from './redis-harness.js';

let server: RedisServer;

beforeAll(async () => {
  server = await RedisServer.start();
});
afterAll(() => server[Symbol.asyncDispose]());

describeConformance(
  redisHarness('redis manager', () => ({
    options: () => ({ url: server.url }),
    flush: () => server.flush(),
  })),
);

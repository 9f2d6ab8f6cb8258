import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll } from '@jest/globals';
import { Redis } from 'ioredis';
import { RedisServer } from '../support/redis-server.js';
import { describeConformance } from './conformance.js';
import { redisHarness, type ConformanceRedis } from './redis-harness.js';

/** A server that is already there, for who wants to see the promises kept on his own. Only keys of this prefix are touched. */
const named = process.env['REDIS_URL'];
const keyPrefix = `nestjs-state-test-${randomUUID()}:`;

let redis: ConformanceRedis;
let close: () => Promise<unknown>;

beforeAll(async () => {
  if (named === undefined) {
    const server = await RedisServer.start();
    redis = { options: () => ({ url: server.url }), flush: () => server.flush() };
    close = () => server[Symbol.asyncDispose]();
    return;
  }
  const client = new Redis(named);
  redis = {
    options: () => ({ url: named, keyPrefix }),
    flush: async () => {
      const keys = await client.keys(`${keyPrefix}*`);
      if (keys.length > 0) await client.del(...keys);
    },
  };
  close = () => client.quit();
});
afterAll(() => close());

describeConformance(redisHarness('redis manager', () => redis));

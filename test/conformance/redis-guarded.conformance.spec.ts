import { afterAll, beforeAll } from '@jest/globals';
import { describeConformance } from './conformance.js';
import { GuardedRedis } from './redis-guarded.js';
import { redisHarness } from './redis-harness.js';

let redis: GuardedRedis;

beforeAll(async () => {
  redis = await GuardedRedis.start();
});
afterAll(() => redis[Symbol.asyncDispose]());

describeConformance(
  redisHarness('redis manager, as a user without CONFIG, with every message dropped', () => redis, {
    losesMessages: true,
  }),
);

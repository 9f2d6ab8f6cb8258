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
  redisHarness(
    'redis manager, with leaseHold',
    () => redis,
    // Another process sees what is acknowledged up to leaseHold later, so the store is not shared as others are.
    { sharesStore: false, losesMessages: true, defaults: { redis: { leaseHold: 30 } } },
  ),
);

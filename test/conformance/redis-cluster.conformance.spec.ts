import { afterAll, beforeAll } from '@jest/globals';
import { RedisCluster } from '../support/redis-cluster.js';
import { describeConformance } from './conformance.js';
import { redisHarness } from './redis-harness.js';

let cluster: RedisCluster;

beforeAll(async () => {
  cluster = await RedisCluster.start();
}, 60_000);
afterAll(() => cluster[Symbol.asyncDispose]());

describeConformance(
  redisHarness('redis manager, on a cluster of three nodes', () => ({
    options: () => ({ client: cluster.connect() }),
    flush: () => cluster.flush(),
  })),
);

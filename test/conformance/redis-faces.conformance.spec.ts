import { afterAll, beforeAll } from '@jest/globals';
import { RedisCluster } from '../support/redis-cluster.js';
import { RedisProxy } from '../support/redis-proxy.js';
import { RedisServer } from '../support/redis-server.js';
import { describeConformance } from './conformance.js';
import { redisHarness } from './redis-harness.js';

const PASSWORD = 'not-a-secret';

let server: RedisServer;
let proxy: RedisProxy;
let cluster: RedisCluster;

beforeAll(async () => {
  [server, cluster] = await Promise.all([
    RedisServer.start({
      users: [
        'user default off',
        `user app on >${PASSWORD} ~state:* &state:* +@read +@write +@scripting +@pubsub +@connection +info`,
      ],
    }),
    RedisCluster.start(),
  ]);
  proxy = await RedisProxy.start(server.port, { dropPubSub: true });
}, 60_000);
afterAll(async () => {
  await proxy[Symbol.asyncDispose]();
  await Promise.all([server[Symbol.asyncDispose](), cluster[Symbol.asyncDispose]()]);
});

describeConformance(
  redisHarness('redis manager, as a user without CONFIG, with every message dropped', () => ({
    options: () => ({ url: `redis://app:${PASSWORD}@127.0.0.1:${proxy.port}` }),
    flush: () => server.flush(),
  })),
);

describeConformance(
  redisHarness('redis manager, on a cluster of three nodes', () => ({
    options: () => ({ client: cluster.connect() }),
    flush: () => cluster.flush(),
  })),
);

describeConformance(
  redisHarness(
    'redis manager, with leaseHold',
    () => ({
      options: () => ({ url: `redis://app:${PASSWORD}@127.0.0.1:${proxy.port}` }),
      flush: () => server.flush(),
    }),
    // Another process sees what is acknowledged up to leaseHold later, so the store is not shared as others are.
    { sharesStore: false, defaults: { redis: { leaseHold: 30 } } },
  ),
);

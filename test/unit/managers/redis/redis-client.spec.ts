import { describe, expect, it } from '@jest/globals';
import { Cluster, Redis } from 'ioredis';
import type { RedisClusterClient, RedisServerClient } from '../../../../lib/managers/redis/redis-client.js';

describe('the shape that is used of ioredis', () => {
  it('is that of its clients', () => {
    const redis: RedisServerClient = new Redis({ lazyConnect: true });
    const cluster: RedisClusterClient = new Cluster([{ host: '127.0.0.1', port: 1 }], { lazyConnect: true });
    for (const client of [redis, cluster]) {
      for (const method of ['callBuffer', 'scan', 'subscribe', 'connect', 'disconnect', 'duplicate'] as const)
        expect(typeof client[method]).toBe('function');
      expect(client.status).toBe('wait');
    }
    expect(cluster.isCluster).toBe(true);
    expect(redis.isCluster).not.toBe(true);
  });
});

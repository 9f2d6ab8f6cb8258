import { describe, expect, it } from '@jest/globals';
import { Cluster, Redis } from 'ioredis';
import type { RedisClusterClient, RedisServerClient } from '../../../../lib/managers/redis/redis-client.js';

describe('the shape that is used of ioredis', () => {
  it('is that of its clients', () => {
    // It makes a method with `Buffer` behind its name of each command, and declares most of them, but not these.
    type Declared<T> = Omit<T, 'evalBuffer' | 'evalshaBuffer' | 'nodes' | 'duplicate'>;
    const declared: [Declared<RedisServerClient>, Declared<RedisClusterClient>] = [
      new Redis({ lazyConnect: true }),
      new Cluster([{ host: '127.0.0.1', port: 1 }], { lazyConnect: true }),
    ];
    const [redis, cluster] = declared as [RedisServerClient, RedisClusterClient];
    for (const client of [redis, cluster]) {
      for (const method of [
        'callBuffer',
        'evalBuffer',
        'evalshaBuffer',
        'scan',
        'subscribe',
        'connect',
        'disconnect',
        'duplicate',
      ] as const)
        expect(typeof client[method]).toBe('function');
      expect(client.status).toBe('wait');
    }
    expect(cluster.isCluster).toBe(true);
    expect(redis.isCluster).not.toBe(true);
  });
});

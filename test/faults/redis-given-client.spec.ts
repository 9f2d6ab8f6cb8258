import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it } from '@jest/globals';
import type { Redis } from 'ioredis';
import { StateToken } from 'nestjs-state';
import { RedisStateManager } from '../../lib/managers/redis/redis-state.manager.js';
import { resolveStateOptions } from '../../lib/state.options.resolve.js';
import { failureOf, newIdent } from '../conformance/harness.js';
import { CounterState } from '../conformance/states.js';
import { TestRedis } from '../support/test-redis.js';

const store = TestRedis.forFile();

function newCounter(): StateToken<CounterState> {
  return new StateToken(newIdent(), CounterState);
}

describe('a client of the application', () => {
  it('may put what it sends into pipelines by itself', async () => {
    const client = store.server.connect({ enableAutoPipelining: true });
    const manager = await store.open({ redis: { client } });
    const token = newCounter();
    const counts = await Promise.all(
      Array.from({ length: 5 }, () => manager.modifyState(token, (counter) => (counter.count += 1))),
    );

    expect(counts).toStrictEqual([1, 2, 3, 4, 5]);
    expect(await manager.count()).toBe(1);
    expect((await manager.getState(token)).count).toBe(5);
  });

  it('may listen to nothing again after a reconnection: locks are handed over all the same', async () => {
    const connect = (): Redis => store.server.connect({ autoResubscribe: false });
    const [holder, waiter] = [
      await store.open({ redis: { client: connect() } }),
      await store.open({ redis: { client: connect() } }),
    ];
    await store.server.killClients('pubsub');
    await delay(500);
    const waitsMs: number[] = [];
    for (let round = 0; round < 3; round += 1) {
      const token = newCounter();
      const turn = await holder.openTurn(token.ident);
      const next = waiter.openTurn(token.ident);
      await delay(100);
      const startMs = performance.now();
      await turn.commit();
      await (await next).commit();
      waitsMs.push(performance.now() - startMs);
    }

    // Without the message each of them takes what is left of a second.
    expect(Math.min(...waitsMs)).toBeLessThan(500);
  });

  it('is used again after it has itself given up what the server did not answer', async () => {
    const client = store.server.connect({ commandTimeout: 900 });
    const manager = await store.open({ redis: { client, commandTimeout: 300 } });
    const token = newCounter();
    await manager.modifyState(token, (counter) => counter.increment());
    store.server.pause();
    await failureOf(manager.modifyState(newCounter(), (counter) => counter.increment()));
    await delay(1_500);
    store.server.resume();
    await delay(300);
    await Promise.allSettled([manager.getState(token)]);

    expect((await manager.getState(token)).count).toBe(1);
    expect(await manager.modifyState(token, (counter) => (counter.count += 1))).toBe(2);
  });

  it('that is ready serves also who has asked before the module was', async () => {
    const client = store.server.connect();
    await client.ping();
    const options = { mode: 'redis', redis: { client } } as const;
    const manager = new RedisStateManager(resolveStateOptions(options, () => undefined));
    const early = manager.modifyState(newCounter(), (counter) => (counter.count += 1));
    await manager.onModuleInit();
    try {
      expect(await early).toBe(1);
    } finally {
      await manager.onModuleDestroy();
    }
  });
});

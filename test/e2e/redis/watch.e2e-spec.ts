import { createHash } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { Redis } from 'ioredis';
import { STATE_OPTIONS, type ResolvedStateOptions } from 'nestjs-state';
import { keepStatesInRedis } from '../../support/app-redis.js';
import { connect } from '../../support/app-sockets.js';
import { EventStream, WatchController, WatchGateway } from '../../support/app-watch.js';
import { SOCKET_PLATFORMS, startApp, type TestApp } from '../../support/app.js';
import { until } from '../../support/redis-server.js';

const server = keepStatesInRedis();
// Everything it says of states in memory is true of states on a server too.
await import('../watch.e2e-spec.js');

describe.each(SOCKET_PLATFORMS)('What Redis knows of who watches (%s)', (sockets) => {
  let app: TestApp;
  let redis: Redis;

  beforeAll(async () => {
    app = await startApp({ sockets, controllers: [WatchController], providers: [WatchGateway] });
    redis = server().connect();
  });

  afterAll(() => app.close());

  function keyOf(ident: string): string {
    const { keyPrefix } = app.nest.get<ResolvedStateOptions>(STATE_OPTIONS).redis;
    return `${keyPrefix}{${createHash('sha256').update(ident).digest('hex').slice(0, 40)}}:watch`;
  }

  it('is gone when the last client of the process has left', async () => {
    const key = keyOf('seen');
    const events = await EventStream.open(app, '/stream', 'seen');
    const socket = await connect(app, sockets, 'seen');
    socket.send('watch', {});
    await Promise.all([events.next(), socket.next('counter')]);
    // The expiration of the key is for processes that have died: who leaves does not wait for it.
    expect(await redis.pttl(key)).toBeGreaterThan(2_000);
    events.leave();
    socket.terminate();
    await until('the key is gone', async () => (await redis.exists(key)) === 0, 1_000);
    expect(await redis.keys(`${key.slice(0, key.indexOf('{'))}*`)).toEqual([]);
  });
});

import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { Controller, Get, Post } from '@nestjs/common';
import { InjectState } from 'nestjs-state';
import { call } from '../../support/app-http.js';
import { CounterGateway } from '../../support/app-gateway.js';
import { connect } from '../../support/app-sockets.js';
import { CounterState } from '../../support/app-states.js';
import { HTTP_PLATFORMS, startApp, type TestApp } from '../../support/app.js';
import { RedisServer } from '../../support/redis-server.js';

@Controller()
class CounterController {
  @Post('increment')
  increment(@InjectState() counter: CounterState) {
    return { count: counter.increment() };
  }

  @Get('read')
  read(@InjectState({ readonly: true }) counter: CounterState) {
    return { count: counter.count };
  }
}

describe.each(HTTP_PLATFORMS)('An application whose Redis is away (%s)', (platform) => {
  let server: RedisServer;
  let apps: TestApp[];

  beforeAll(async () => {
    server = await RedisServer.start({ persistent: true });
    const setup = {
      platform,
      sockets: platform === 'express' ? ('socket.io' as const) : ('ws' as const),
      controllers: [CounterController],
      providers: [CounterGateway],
      state: { mode: 'redis' as const, redis: { url: server.url, commandTimeout: 1_000 } },
    };
    apps = await Promise.all([startApp(setup), startApp(setup)]);
  });
  afterAll(async () => {
    await Promise.all(apps.map((app) => app.close()));
    await server[Symbol.asyncDispose]();
  });

  it('counts over both of its processes, HTTP and sockets together, and loses none', async () => {
    const sockets = await Promise.all(
      apps.map((app) => connect(app, platform === 'express' ? 'socket.io' : 'ws', 'both')),
    );
    const counts = await Promise.all(
      Array.from({ length: 120 }, async (_, index) => {
        const app = apps[index % 2] as TestApp;
        const socket = sockets[(index + 1) % 2];
        if (index % 3 === 0) return (await socket?.request<{ count: number }>('increment'))?.count as number;
        return (await call<{ count: number }>(app, '/increment', { token: 'both' })).body.count;
      }),
    );
    await Promise.all(sockets.map((socket) => socket.close()));

    expect(counts.sort((a, b) => a - b)).toEqual(Array.from({ length: 120 }, (_, index) => index + 1));
    for (const app of apps) {
      expect((await call(app, '/read', { token: 'both', method: 'GET' })).body).toEqual({ count: 120 });
    }
  });

  it('answers 503 with Retry-After, sockets with an exception, and goes on when the server is back', async () => {
    const [app] = apps as [TestApp];
    const kind = platform === 'express' ? 'socket.io' : 'ws';
    const socket = await connect(app, kind, 'away');
    expect((await call(app, '/increment', { token: 'away' })).body).toEqual({ count: 1 });
    await server.kill();

    for (const [path, method] of [
      ['/increment', 'POST'],
      ['/read', 'GET'],
    ] as const) {
      const { status, headers, body } = await call(app, path, { token: 'away', method });
      expect(status).toBe(503);
      expect(headers['retry-after']).toBe('1');
      expect(body).toMatchObject({
        code: 'STATE_STORE_UNAVAILABLE',
        message: 'The state is not available. Try again.',
      });
    }
    expect(await socket.failure('increment', {})).toMatchObject({ statusCode: 503, code: 'STATE_STORE_UNAVAILABLE', retryAfter: 1 }); // prettier-ignore
    await server.restart();
    let answer = await call(app, '/read', { token: 'away', method: 'GET' });
    for (let tries = 0; answer.status !== 200 && tries < 100; tries += 1) {
      await delay(30);
      answer = await call(app, '/read', { token: 'away', method: 'GET' });
    }
    expect(answer.body).toEqual({ count: 1 });
    expect((await call(app, '/increment', { token: 'away' })).body).toEqual({ count: 2 });
    await socket.close();
  });
});

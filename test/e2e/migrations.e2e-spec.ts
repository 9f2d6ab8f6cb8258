import { Module, type INestApplication, type Type } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { afterEach, describe, expect, it } from '@jest/globals';
import { StateManager, StateModule } from 'nestjs-state';
import { io, type Socket } from 'socket.io-client';
import { CachedCarts, StateCarts } from '../../sample/migrations/from-cache-and-mutex.js';
import { SessionShopModule, StateShopModule } from '../../sample/migrations/from-express-session.js';
import { DrawingModule, FieldGateway, FieldModule } from '../../sample/migrations/from-gateway-fields.js';

const TIMES = 50;
const opened: INestApplication[] = [];

async function start(module: Type<unknown>): Promise<INestApplication> {
  const app = await NestFactory.create(module, { logger: false, abortOnError: false });
  opened.push(app);
  await app.listen(0, '127.0.0.1');
  return app;
}

afterEach(async () => {
  await Promise.all(opened.splice(0).map((app) => app.close()));
});

/** Puts things into the cart of one visitor, all at once, and returns how many are in it then. */
async function fill(app: INestApplication): Promise<number> {
  const url = `${await app.getUrl()}/cart`;
  const add = async (cookie?: string): Promise<Response> =>
    fetch(url, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...(cookie === undefined ? {} : { cookie }) },
      body: JSON.stringify({ item: 'tea' }),
    });
  const first = await add();
  const cookie = first.headers
    .getSetCookie()
    .map((header) => header.split(';')[0])
    .join('; ');
  const answers = await Promise.all(Array.from({ length: TIMES }, () => add(cookie)));
  for (const { status } of answers) expect(status).toBe(201);
  return ((await (await add(cookie)).json()) as { items: number }).items;
}

/** Sends strokes of one client, all at once, and returns how many there are then. */
async function draw(app: INestApplication): Promise<number> {
  const socket: Socket = io(await app.getUrl(), { transports: ['websocket'], auth: { token: 'painter' } });
  try {
    const stroke = (id: number): Promise<number> =>
      new Promise((resolve) => {
        const hear = (data: { id: number; strokes: number }): void => {
          if (data.id !== id) return;
          socket.off('drawn', hear);
          resolve(data.strokes);
        };
        socket.on('drawn', hear);
        socket.emit('draw', { id, stroke: 'line' });
      });
    await Promise.all(Array.from({ length: TIMES }, (_, id) => stroke(id)));
    return await stroke(TIMES);
  } finally {
    socket.disconnect();
  }
}

describe('Coming from', () => {
  it('express-session, parallel requests no longer overwrite each other', async () => {
    expect(await fill(await start(SessionShopModule))).toBeLessThan(TIMES);
    expect(await fill(await start(StateShopModule))).toBe(TIMES + 2);
  });

  it('a cache and a mutex, the same counts are reached, and no mutex is left for each visitor', async () => {
    class CartsModule {}
    Module({ imports: [StateModule.forRoot()], providers: [CachedCarts, StateCarts] })(CartsModule);
    const app = await start(CartsModule);
    const before = app.get(CachedCarts);
    const after = app.get(StateCarts);
    for (const carts of [before, after]) {
      const visitors = Array.from({ length: TIMES }, (_, number) => `visitor-${number % 10}`);
      const counts = await Promise.all(visitors.map((visitor) => carts.add(visitor, 'tea')));
      expect(Math.max(...counts)).toBe(TIMES / 10);
    }
    expect(before.mutexes.size).toBe(10);
    const states = app.get(StateManager);
    expect(states.stats()).toMatchObject({ openTurns: 0, waiting: 0, states: 10 });
  });

  it('fields of a gateway, no message is lost and nothing stays for who has left', async () => {
    const fields = await start(FieldModule);
    expect(await draw(fields)).toBeLessThan(TIMES);
    await draw(fields);
    expect(fields.get(FieldGateway).drawings.size).toBe(2);

    const states = await start(DrawingModule);
    expect(await draw(states)).toBe(TIMES + 1);
    expect(await draw(states)).toBe(2 * (TIMES + 1));
    expect(states.get(StateManager).stats()).toMatchObject({ openTurns: 0, waiting: 0, states: 1 });
  });
});

import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { Controller, Inject, Post, Query } from '@nestjs/common';
import type { Redis } from 'ioredis';
import { InjectState, StateManager, StateToken } from 'nestjs-state';
import { RedisKeys } from '../../../lib/managers/redis/redis-keys.js';
import { call, countOf, expectIdle } from '../../support/app-http.js';
import { Gates, inParallel } from '../../support/app-gate.js';
import { CartState, CounterState } from '../../support/app-states.js';
import { HTTP_PLATFORMS, MANY, startApp, type TestApp } from '../../support/app.js';
import { RedisServer } from '../../support/redis-server.js';

const keys = new RedisKeys('state:');
let gates = new Gates();

const identFrom = (prefix: string) => (context: { switchToHttp(): { getRequest<T>(): T } }) =>
  `${prefix}-${context.switchToHttp().getRequest<{ headers: Record<string, string> }>().headers['x-state-token']}`;

@Controller()
class TransferController {
  constructor(@Inject(StateManager) private readonly states: StateManager) {}

  @Post('both')
  async both(
    @InjectState({ ident: identFrom('a') }) first: CounterState,
    @InjectState({ ident: identFrom('b') }) second: CounterState,
    @Query('gate') gate: string | undefined,
  ) {
    first.increment();
    second.increment();
    if (gate !== undefined) await gates.at(gate).pass();
    return { first, second };
  }

  /** A service that changes the injected state together with another one: all of it ends with the handler. */
  @Post('added')
  async added(
    @InjectState({ ident: identFrom('a') }) first: CounterState,
    @Query('ident') ident: string,
    @Query('fails') fails: string | undefined,
  ) {
    const tokens = [
      new StateToken(`a-${ident}`, CounterState),
      new StateToken(`c-${ident}`, CartState),
    ] as const;
    await this.states.modifyStates(tokens, (same, cart) => {
      same.count += 10;
      cart.add('tea');
    });
    if (fails !== undefined) throw new Error('refused');
    return first;
  }
}

describe.each(HTTP_PLATFORMS)('A handler with states of several idents on Redis (%s)', (platform) => {
  let server: RedisServer;
  let redis: Redis;
  let app: TestApp;

  beforeAll(async () => {
    server = await RedisServer.start();
    redis = server.connect();
    const state = { mode: 'redis' as const, redis: { url: server.url } };
    app = await startApp({ platform, controllers: [TransferController], state });
    gates = new Gates();
  });
  afterAll(async () => {
    await app.close();
    await server[Symbol.asyncDispose]();
  });

  const countsOf = (token: string) => Promise.all([countOf(app, `a-${token}`), countOf(app, `b-${token}`)]);

  it('stores both, and answers with what is stored', async () => {
    await inParallel(MANY, async (index) => {
      const token = `fine-${index}`;
      expect(await call(app, '/both', { token })).toMatchObject({
        status: 201,
        body: { first: { count: 1 }, second: { count: 1 } },
      });
      expect(await countsOf(token)).toEqual([1, 1]);
    });
    await expectIdle(app);
  });

  it.each(['a', 'b'])('stores nothing of either when the lock of %s is lost', async (prefix) => {
    await inParallel(10, async (index) => {
      const token = `lost-${prefix}-${index}`;
      expect((await call(app, '/both', { token })).status).toBe(201);
      const answer = call(app, `/both?gate=${token}`, { token });
      await gates.at(token).reached;
      await redis.del(keys.ofIdent(`${prefix}-${token}`).lock);
      gates.at(token).open();
      expect((await answer).status).toBe(500);
      expect(await countsOf(token)).toEqual([1, 1]);
      expect((await call(app, '/both', { token })).status).toBe(201);
    });
    await expectIdle(app);
    expect(await server.keys('*:lock')).toEqual([]);
  });

  it('stores what modifyStates adds to its turn with it, or not at all', async () => {
    await inParallel(10, async (index) => {
      const token = `added-${index}`;
      const cart = new StateToken(`c-${token}`, CartState);
      expect((await call(app, `/added?ident=${token}&fails=1`, { token })).status).toBe(500);
      expect(await countOf(app, `a-${token}`)).toBe(0);
      expect((await app.states.getState(cart)).items).toEqual([]);
      expect((await call(app, `/added?ident=${token}`, { token })).body).toEqual({ count: 10 });
      expect((await app.states.getState(cart)).items).toHaveLength(1);
    });
    await expectIdle(app);
  });
});

import { afterEach, describe, expect, it } from '@jest/globals';
import { Controller, Get, Global, Injectable, Module, Post } from '@nestjs/common';
import type { NestExpressApplication } from '@nestjs/platform-express';
import { Test, type TestingModule } from '@nestjs/testing';
import {
  InjectState,
  LockExpiredError,
  LockTimeoutError,
  OnState,
  STATE_OPTIONS,
  State,
  StateManager,
  StateModule,
  StateToken,
  type Immutable,
  type ResolvedStateOptions,
} from 'nestjs-state';
import { StateTesting, StateTestingClock, StateTestingModule } from 'nestjs-state/testing';

@State('cart-in-tests')
class CartState {
  items: string[] = [];
  coupon: string | undefined = undefined;

  add(item: string): number {
    return this.items.push(item);
  }
}

@Controller('cart')
class CartController {
  @Post()
  add(@InjectState() cart: CartState) {
    cart.add('tea');
    return cart;
  }

  @Get()
  read(@InjectState({ readonly: true }) cart: CartState) {
    return cart;
  }
}

@Injectable()
class CartHooks {
  readonly expired: string[] = [];

  @OnState(CartState, 'expired')
  async giveBack(cart: Immutable<CartState>): Promise<void> {
    await Promise.resolve();
    this.expired.push(...cart.items);
  }
}

@Module({ controllers: [CartController], providers: [CartHooks], exports: [CartHooks] })
class CartModule {}

// A server that is not there: whoever asks it fails.
@Global()
@Module({
  imports: [
    CartModule,
    StateModule.forRoot({
      mode: 'redis',
      expiration: '30d',
      redis: { url: 'redis://127.0.0.1:1' },
      token: { header: 'x-cart', secret: 'sixteen characters' },
    }),
  ],
})
class AppModule {}

let module: TestingModule;

async function start(imports: NonNullable<Parameters<typeof Test.createTestingModule>[0]['imports']>) {
  module = await Test.createTestingModule({ imports }).compile();
  await module.init();
  return {
    states: module.get(StateManager),
    testing: module.get(StateTesting),
    clock: module.get(StateTestingClock),
  };
}

afterEach(() => module.close());

describe('StateTestingModule', () => {
  const token = new StateToken('somebody', CartState);

  it('seeds a state with some of its fields, and shows what is stored', async () => {
    const { states, testing } = await start([StateTestingModule.forRoot()]);
    expect(await testing.read(token)).toBeUndefined();
    await testing.seed(token, { items: ['tea'], coupon: 'ten' });
    await testing.seed(token, { items: ['milk'] });
    const cart = await testing.read(token);
    expect(cart).toEqual({ items: ['milk'], coupon: undefined });
    expect(cart).toBeInstanceOf(CartState);
    await states.deleteState(token.ident);
    expect(await testing.read(token)).toBeUndefined();
    expect(states.stats()).toStrictEqual({ mode: 'memory', openTurns: 0, waiting: 0, states: 0 });
  });

  it('stores a state that was seeded with nothing', async () => {
    const { testing } = await start([StateTestingModule.forRoot()]);
    await testing.seed(token);
    expect(await testing.read(token)).toEqual({ items: [], coupon: undefined });
  });

  it('lets states expire by its clock, and has called their hooks then', async () => {
    const { states, testing, clock } = await start([
      StateTestingModule.forRoot({ expiration: '60d' }),
      CartModule,
    ]);
    await testing.seed(token, { items: ['tea'] });
    await clock.advance('59d');
    expect(await testing.read(token)).toBeDefined();
    await clock.advance('1d');
    expect(await testing.read(token)).toBeUndefined();
    expect(states.stats().states).toBe(0);
    expect(module.get(CartHooks).expired).toEqual(['tea']);
  });

  it('restarts no window by looking at what is stored', async () => {
    const { testing, clock } = await start([StateTestingModule.forRoot({ expiration: '1h' })]);
    await testing.seed(token, { items: ['tea'] });
    await clock.advance('40m');
    await testing.read(token);
    await clock.advance('20m');
    expect(await testing.read(token)).toBeUndefined();
  });

  it('lets waits and leases end by its clock, in their order, and goes on by itself', async () => {
    const { states, testing, clock } = await start([
      StateTestingModule.forRoot({ acquireTimeout: '30s', maxHold: '60s', lockWarningThreshold: '9s' }),
    ]);
    const turn = await states.openTurn(token.ident, { label: 'Slow.handler' });
    const ends: string[] = [];
    const late = states.openTurn(token.ident, { label: 'Late.handler' });
    late.catch((error: Error) => ends.push(error.name));
    turn.signal.addEventListener('abort', () => ends.push('lost'));
    await clock.advance('20s');
    expect(() => testing.assertNoLocks()).toThrow(
      /^1 locks are held, 1 callers wait: held by Slow\.handler for 20\d{3} ms, waited for by Late\.handler for 20\d{3} ms\.$/,
    );
    await clock.advance('2h');
    await expect(late).rejects.toThrow(LockTimeoutError);
    expect(ends).toEqual(['LockTimeoutError', 'lost']);
    await expect(turn.commit()).rejects.toThrow(LockExpiredError);
    testing.assertNoLocks();

    await testing.seed(token, { items: ['tea'] });
    const again = await states.openTurn(token.ident);
    await expect(states.openTurn(token.ident, { acquireTimeout: 20 })).rejects.toThrow(LockTimeoutError);
    await again.rollback();
    await expect(clock.advance('soon')).rejects.toThrow(RangeError);
  });

  it('shortens what is left of a timer that is not due yet', async () => {
    const { states, clock } = await start([StateTestingModule.forRoot({ maxHold: '2h' })]);
    await using turn = await states.openTurn(token.ident);
    const late = states.openTurn(token.ident, { acquireTimeout: '1h' });
    const refused = expect(late).rejects.toThrow(LockTimeoutError);
    await clock.advance(3_600_000 - 50);
    expect(states.stats()).toMatchObject({ openTurns: 1, waiting: 1 });
    await refused;
    await turn.rollback();
  });

  it('may be put forward inside of a turn, which nothing that falls due joins', async () => {
    const { states, testing, clock } = await start([
      StateTestingModule.forRoot({ expiration: '1h', maxHold: '1d' }),
      CartModule,
    ]);
    await testing.seed(token, { items: ['tea'] });
    await states.modifyState(new StateToken('somebody else', CartState), async (cart) => {
      await clock.advance('2h');
      cart.add('milk');
    });
    expect(module.get(CartHooks).expired).toEqual(['tea']);
    expect(await testing.read(new StateToken('somebody else', CartState))).toMatchObject({ items: ['milk'] });
  });

  it('takes a whole application to memory, with its own options where none are given', async () => {
    module = await Test.createTestingModule({
      imports: [AppModule, StateTestingModule.forApplication({ maxHold: '5s' })],
    }).compile();
    const app = module.createNestApplication<NestExpressApplication>();
    await app.listen(0, '127.0.0.1');
    const url = `${await app.getUrl()}/cart`;
    const testing = app.get(StateTesting);
    const options = app.get<ResolvedStateOptions>(STATE_OPTIONS);
    expect(options).toMatchObject({ mode: 'memory', maxHoldMs: 5_000, expirationMs: 30 * 86_400_000 });

    await testing.seed(token, { items: ['milk'] });
    const headers = testing.headers(token.ident);
    expect(Object.keys(headers)).toEqual(['x-cart']);
    const added = await fetch(url, { method: 'POST', headers });
    expect(await added.json()).toEqual({ items: ['milk', 'tea'] });
    expect((await fetch(url, { headers: { 'x-cart': token.ident } })).status).toBe(401);
    expect(await testing.read(token)).toMatchObject({ items: ['milk', 'tea'] });
    testing.assertNoLocks();

    await app.get(StateTestingClock).advance('30d');
    expect(await (await fetch(url, { headers })).json()).toEqual({ items: [] });
    await app.close();
  });

  it('in the place of a StateModule that is there all the same keeps the application from starting', async () => {
    const imports = [StateTestingModule.forRoot(), AppModule];
    await expect(Test.createTestingModule({ imports }).compile()).rejects.toThrow(/imported 2 times/);
  });
});

import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { Controller, Inject, Injectable, Post, Scope, type Provider, type Type } from '@nestjs/common';
import { REQUEST } from '@nestjs/core';
import {
  InjectState,
  InvalidStateOptionsError,
  OnState,
  StateContext,
  StateManager,
  StateToken,
  type Immutable,
  type StateHookEvent,
  type StateHookReason,
} from 'nestjs-state';
import { until } from '../support/app-gate.js';
import { call, expectIdle } from '../support/app-http.js';
import { CartState, CounterState } from '../support/app-states.js';
import { HTTP_PLATFORMS, MANY, startApp, startError, type TestApp } from '../support/app.js';

interface Seen {
  readonly by: string;
  readonly reason: StateHookReason;
  readonly ident: string;
  readonly content: unknown;
}

const seen: Seen[] = [];

function note(by: string, { reason, token }: StateHookEvent<unknown>, content: unknown): void {
  seen.push({ by, reason, ident: token.ident, content });
}

function seenBy(by: string, ident: string): unknown[] {
  return seen
    .filter((entry) => entry.by === by && entry.ident === ident)
    .map(({ reason, content }) => [reason, content]);
}

function expiredOf(prefix: string): number {
  return seen.filter(({ by, ident }) => by === 'controller' && ident.startsWith(prefix)).length;
}

class BaseHooks {
  @OnState(CounterState, 'created')
  inherited(counter: CounterState, event: StateHookEvent<CounterState>) {
    note('inherited', event, counter.count);
  }
}

@Injectable()
class CartHooks extends BaseHooks {
  constructor(@Inject(StateManager) private readonly states: StateManager) {
    super();
  }

  @OnState(CartState, 'created')
  @OnState(CartState, 'expired')
  @OnState(CartState, 'deleted')
  onCart(cart: Immutable<CartState>, event: StateHookEvent<CartState>) {
    note('cart', event, cart.items.map(({ sku }) => sku).join());
  }

  @OnState(CartState, 'expired')
  async restock(cart: Immutable<CartState>, { token }: StateHookEvent<CartState>) {
    const stock = new StateToken(`stock-of-${token.ident}`, CounterState);
    await this.states.modifyState(stock, (counter) => void (counter.count += cart.items.length));
  }

  @OnState(CartState, 'created')
  bad(_cart: Immutable<CartState>, event: StateHookEvent<CartState>) {
    note('bad', event, undefined);
    expect(() => StateContext.ident()).toThrow();
    throw new Error('of a hook');
  }
}

@Controller()
class CartController {
  @Post('add')
  add(@InjectState() cart: CartState, @InjectState() counter: CounterState) {
    cart.add(`sku-${counter.increment()}`);
    return { items: cart.items.length };
  }

  @Post('refuse')
  refuse(@InjectState() cart: CartState) {
    cart.add('never');
    throw new Error('of the handler');
  }

  @OnState(CounterState, 'expired')
  onCounter(counter: CounterState, event: StateHookEvent<CounterState>) {
    note('controller', event, counter.count);
  }
}

const made: Provider = { provide: 'made', useFactory: () => new MadeHooks() };
const alias: Provider = { provide: 'alias', useExisting: 'made' };

class MadeHooks {
  @OnState(CounterState, 'deleted')
  onDeleted(counter: CounterState, event: StateHookEvent<CounterState>) {
    note('made', event, counter.count);
  }
}

describe.each(HTTP_PLATFORMS)('@OnState() (%s)', (platform) => {
  let app: TestApp;

  beforeAll(async () => {
    app = await startApp({
      platform,
      controllers: [CartController],
      providers: [CartHooks, made, alias],
      state: { expiration: 2_000 },
    });
  });
  afterAll(() => app.close());

  it('calls methods of providers and controllers, once for each event, with what was committed last', async () => {
    const idents = Array.from({ length: MANY }, (_, index) => `${platform}-${index}`);
    await Promise.all(
      idents.map(async (token) => {
        expect((await call(app, '/refuse', { token })).status).toBe(500);
        expect((await call(app, '/add', { token })).status).toBe(201);
        expect((await call(app, '/add', { token })).body).toEqual({ items: 2 });
      }),
    );
    await until(() => expiredOf(platform) >= MANY, 'every counter has expired');
    await until(() => seenBy('cart', idents.at(-1) as string).length >= 2, 'every cart has expired');
    for (const ident of idents) {
      expect(seenBy('cart', ident)).toEqual([
        ['created', 'sku-1'],
        ['expired', 'sku-1,sku-2'],
      ]);
      expect(seenBy('controller', ident)).toEqual([['expired', 2]]);
      expect(seenBy('inherited', ident)).toEqual([['created', 1]]);
      expect(seenBy('bad', ident)).toEqual([['created', undefined]]);
      await until(() => seenBy('inherited', `stock-of-${ident}`).length > 0, 'the stock is counted');
      expect(seenBy('inherited', `stock-of-${ident}`)).toEqual([['created', 2]]);
    }
    await expectIdle(app);
  });

  it('finds the instance of a factory, once, whatever other names it has', async () => {
    const token = new StateToken(`${platform}-made`, CounterState);
    await app.states.modifyState(token, (counter) => void (counter.count = 7));
    await app.states.deleteState(token.ident);
    await until(() => seenBy('made', token.ident).length > 0, 'it was called');
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(seenBy('made', token.ident)).toEqual([['deleted', 7]]);
  });
});

class NoState {}

@Injectable()
class WrongHooks {
  @OnState(NoState, 'expired')
  noState() {}

  @OnState(CartState, 'gone' as never)
  unknownEvent() {}

  @OnState(undefined as unknown as Type<CartState>, 'created')
  circular() {}
}

@Injectable({ scope: Scope.REQUEST })
class RequestHooks {
  @OnState(CartState, 'expired')
  onExpired() {}
}

@Injectable({ scope: Scope.TRANSIENT })
class TransientHooks {
  @OnState(CartState, 'expired')
  onExpired() {}
}

@Injectable()
class DependingHooks {
  constructor(@Inject(REQUEST) readonly request: unknown) {}

  @OnState(CartState, 'expired')
  onExpired() {}
}

@Controller({ scope: Scope.REQUEST })
class RequestController {
  @OnState(CartState, 'expired')
  onExpired() {}
}

describe('A method that cannot be called', () => {
  it('stops the start, and is named, together with all others', async () => {
    const error = (await startError({ providers: [WrongHooks] })) as InvalidStateOptionsError;
    expect(error).toBeInstanceOf(InvalidStateOptionsError);
    expect(error.problems).toEqual([
      'WrongHooks.noState, @OnState(): NoState is not a state class. Decorate it with @State().',
      'WrongHooks.unknownEvent, @OnState(): "gone" is no event. Choose one of created, expired, deleted, evicted, lock-lost.',
      'WrongHooks.circular, @OnState(): undefined is not a state class. Decorate it with @State().',
    ]);
  });

  it.each([
    ['of a provider of a request', RequestHooks, []],
    ['of a transient provider', TransientHooks, []],
    ['of a provider that depends on one of a request', DependingHooks, []],
    ['of a controller of a request', undefined, [RequestController]],
  ])('stops the start when it is one %s', async (_case, provider, controllers) => {
    const error = await startError({ providers: provider === undefined ? [] : [provider], controllers });
    expect(error).toBeInstanceOf(InvalidStateOptionsError);
    expect(error.message).toMatch(/Hooks\.onExpired|RequestController\.onExpired/);
    expect(error.message).toContain('default scope');
  });

  it('stops the start when a factory has made its instance', async () => {
    const provider = { provide: 'wrong', useFactory: () => new WrongHooks() };
    const error = (await startError({ providers: [provider] })) as InvalidStateOptionsError;
    expect(error.problems).toHaveLength(3);
  });

  it('is refused where it is static', () => {
    expect(() => {
      class Static {
        @OnState(CartState, 'expired')
        static onExpired() {}
      }
      return Static;
    }).toThrow(/onExpired/);
  });
});

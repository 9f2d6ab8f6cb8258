import { setImmediate as nextLoopTurn } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { Controller, Inject, Post, type ExecutionContext } from '@nestjs/common';
import { InjectState, State, StateIdent, StateManager, StateToken } from 'nestjs-state';
import { call, countOf, expectIdle } from '../support/app-http.js';
import { inOneQueue, inParallel } from '../support/app-gate.js';
import { CartState, CounterState } from '../support/app-states.js';
import { HTTP_PLATFORMS, MANY, startApp, type TestApp } from '../support/app.js';

@State('e2e.account')
class AccountState {
  cents = 1000;
  history: { cents: number }[] = [];
}

const identFrom = (header: string) => (context: ExecutionContext) =>
  context.switchToHttp().getRequest<{ headers: Record<string, string> }>().headers[header] as string;
const payer = identFrom('x-payer');
const payee = identFrom('x-payee');

let kept: { counter: CounterState; items: CartState['items'] } | undefined;

@Controller()
class TurnsController {
  constructor(@Inject(StateManager) private readonly states: StateManager) {}

  @Post('order')
  async order(@InjectState() counter: CounterState, @InjectState() cart: CartState) {
    const { count } = counter;
    await nextLoopTurn();
    counter.count = count + 1;
    cart.add(`sku-${counter.count}`);
    return { count: counter.count, items: cart.items };
  }

  @Post('order-and-throw')
  orderAndThrow(@InjectState() counter: CounterState, @InjectState() cart: CartState) {
    cart.add(`sku-${counter.increment()}`);
    throw new Error('after both were changed');
  }

  @Post('pay')
  async pay(
    @InjectState({ ident: payer }) from_: AccountState,
    @InjectState({ ident: payee }) to: AccountState,
  ) {
    from_.cents -= 1;
    await nextLoopTurn();
    to.cents += 1;
  }

  @Post('pay-back')
  async payBack(
    @InjectState({ ident: payee }) to: AccountState,
    @InjectState({ ident: payer }) from_: AccountState,
  ) {
    to.cents -= 1;
    await nextLoopTurn();
    from_.cents += 1;
  }

  @Post('share')
  share(
    @InjectState() cart: CartState,
    @InjectState({ ident: payee }) account: AccountState,
    @InjectState() own: AccountState,
  ) {
    cart.add('shared');
    own.history = [{ cents: 7 }];
    account.history = own.history;
    account.history.push({ cents: 8 });
    return { own: own.history, other: account.history, cart };
  }

  @Post('join')
  async join(@InjectState() counter: CounterState, @StateIdent() ident: string) {
    counter.increment();
    await this.states.modifyState(new StateToken(ident, CounterState), (same) => same.increment());
    return { count: counter.count };
  }

  @Post('keep')
  keep(@InjectState() counter: CounterState, @InjectState() cart: CartState) {
    cart.add('kept');
    kept = { counter, items: cart.items };
  }
}

describe.each(HTTP_PLATFORMS)('States in a handler (%s)', (platform) => {
  let app: TestApp;

  beforeAll(async () => {
    app = await startApp({ platform, controllers: [TurnsController] });
  });

  afterAll(() => app.close());

  it('share one turn when they are of one ident', async () => {
    await inOneQueue(app.states, ['order'], MANY, () => call(app, '/order', { token: 'order' }));
    const { items } = await app.states.getState(new StateToken('order', CartState));
    expect(items.map(({ sku }) => sku)).toEqual(Array.from({ length: MANY }, (_, i) => `sku-${i + 1}`));
    expect(await countOf(app, 'order')).toBe(MANY);
    await inParallel(MANY, () => call(app, '/order-and-throw', { token: 'order' }));
    expect(await countOf(app, 'order')).toBe(MANY);
    await expectIdle(app);
  });

  it('of two idents are locked in one order: handlers that name them in opposite order never deadlock', async () => {
    const headers = { 'x-payer': 'alice', 'x-payee': 'bob' };
    const swapped = { 'x-payer': 'bob', 'x-payee': 'alice' };
    const answers = await inOneQueue(app.states, ['alice', 'bob'], 4 * MANY, (index) =>
      call(app, index % 4 < 2 ? '/pay' : '/pay-back', {
        token: `payer-${index}`,
        headers: index % 3 === 0 ? swapped : headers,
      }),
    );
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([201]));
    const [alice, bob] = await Promise.all(
      ['alice', 'bob'].map((ident) => app.states.getState(new StateToken(ident, AccountState))),
    );
    expect((alice?.cents ?? 0) + (bob?.cents ?? 0)).toBe(2000);
    await expectIdle(app);
  });

  it('of two idents may be one and the same', async () => {
    const headers = { 'x-payer': 'self', 'x-payee': 'self' };
    await inParallel(MANY, () => call(app, '/pay', { token: 'self', headers }));
    expect((await app.states.getState(new StateToken('self', AccountState))).cents).toBe(1000);
    await expectIdle(app);
  });

  it('may be given a part of one another, and are stored apart', async () => {
    await inParallel(MANY, async (index) => {
      const token = `share-${index}`;
      const headers = { 'x-payee': `share-with-${index}` };
      const history = [{ cents: 7 }, { cents: 8 }];
      const { body } = await call(app, '/share', { token, headers });
      expect(body).toEqual({ own: history, other: history, cart: { items: [{ sku: 'shared', amount: 1 }] } });
      for (const ident of [token, headers['x-payee']]) {
        expect((await app.states.getState(new StateToken(ident, AccountState))).history).toEqual(history);
      }
      await app.states.modifyState(new StateToken(token, AccountState), (own) => void own.history.pop());
      const other = await app.states.getState(new StateToken(headers['x-payee'], AccountState));
      expect(other.history).toEqual(history);
    });
    await expectIdle(app);
  });

  it('are the ones that a modifyState() of the same ident gets', async () => {
    await inParallel(MANY, async (index) => {
      expect((await call(app, '/join', { token: `join-${index}` })).body).toEqual({ count: 2 });
    });
  });

  it('throw when they are used after their turn', async () => {
    expect((await call(app, '/keep', { token: 'keep' })).status).toBe(201);
    expect(() => kept?.counter.count).toThrow();
    expect(() => kept?.counter.increment()).toThrow();
    expect(() => kept?.items.push({ sku: 'late', amount: 1 })).toThrow();
    expect(await countOf(app, 'keep')).toBe(0);
  });
});

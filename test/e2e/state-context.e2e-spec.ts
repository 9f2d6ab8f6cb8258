import type { AddressInfo, Server } from 'node:net';
import { setImmediate as nextLoopTurn } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { Controller, Get, Injectable, Post, type ExecutionContext } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { ClientProxyFactory, MessagePattern, Transport } from '@nestjs/microservices';
import { MessageBody, SubscribeMessage, WebSocketGateway } from '@nestjs/websockets';
import { InjectState, StateContext, StateError, StateIdent, StateManager, StateToken } from 'nestjs-state';
import { firstValueFrom } from 'rxjs';
import { call, countOf, expectIdle } from '../support/app-http.js';
import { connect } from '../support/app-sockets.js';
import { Gate, inParallel } from '../support/app-gate.js';
import { CartState, CounterState } from '../support/app-states.js';
import {
  HTTP_PLATFORMS,
  rootModule,
  SOCKET_PLATFORMS,
  startApp,
  type AppSetup,
  type TestApp,
} from '../support/app.js';

const MANY_CLIENTS = 100;

/** What becomes of {@link StateContext.current}: the code of its error, and whether the message says why. */
function failureOf(use: () => unknown): { code?: string; message?: string } {
  try {
    use();
  } catch (error) {
    return error instanceof StateError ? { code: error.code, message: error.message } : {};
  }
  return {};
}

@Injectable()
class Basket {
  /** Nobody passes it anything but what is to be added. */
  async add(sku: string): Promise<string[]> {
    StateContext.current(CounterState).increment();
    await nextLoopTurn();
    StateContext.current(CartState).add(sku);
    await nextLoopTurn();
    StateContext.current(CounterState).increment();
    return StateContext.current(CartState).items.map((item) => item.sku);
  }
}

const friend = (context: ExecutionContext) =>
  context.switchToHttp().getRequest<{ headers: Record<string, string> }>().headers['x-friend'] as string;
const guest = async (context: ExecutionContext) => {
  await nextLoopTurn();
  return `${friend(context)}-guest`;
};
const user = (context: ExecutionContext) => context.switchToRpc().getData<{ user: string }>().user;

let answered = new Gate();
let late: Promise<{ code?: string; message?: string }> | undefined;

@Controller()
class ContextController {
  constructor(private readonly basket: Basket) {}

  @Post('add')
  async add(@InjectState() counter: CounterState, @StateIdent() ident: string) {
    await nextLoopTurn();
    const items = await this.basket.add(ident);
    return { items, count: counter.count, isSame: StateContext.current(CounterState) === counter };
  }

  @Post('with-a-friend')
  withFriend(
    @InjectState({ ident: friend }) theirs: CounterState,
    @InjectState() own: CounterState,
    @InjectState({ ident: friend }) cart: CartState,
  ) {
    return {
      own: StateContext.current(CounterState) === own,
      others: StateContext.current(CounterState) === theirs,
      cart: StateContext.current(CartState) === cart,
      ident: StateContext.ident(),
    };
  }

  @Post('only-others')
  onlyOthers(
    @InjectState({ ident: friend }) _one: CounterState,
    @InjectState({ ident: guest }) _other: CounterState,
  ) {
    return failureOf(() => StateContext.current(CounterState));
  }

  @Get('readonly')
  read(@InjectState({ readonly: true }) _counter: CounterState) {
    return failureOf(() => StateContext.current(CounterState));
  }

  @Get('nothing')
  nothing() {
    return failureOf(() => StateContext.current(CounterState));
  }

  @Post('late')
  late(@InjectState() counter: CounterState) {
    late = answered.pass().then(() => failureOf(() => StateContext.current(CounterState)));
    return { count: counter.increment() };
  }

  @MessagePattern('add')
  async addByMessage(@InjectState({ ident: user }) counter: CounterState) {
    const items = await this.basket.add(StateContext.ident());
    return { items, count: counter.count };
  }
}

@WebSocketGateway()
class ContextGateway {
  constructor(private readonly basket: Basket) {}

  @SubscribeMessage('add')
  async add(@InjectState() counter: CounterState, @MessageBody() { id }: { id: number }) {
    const items = await this.basket.add(StateContext.ident());
    return { event: 'answer', data: { id, items, count: counter.count } };
  }
}

const setup: AppSetup = { controllers: [ContextController], providers: [Basket, ContextGateway] };

describe.each(HTTP_PLATFORMS)('StateContext.current() over HTTP (%s)', (platform) => {
  let app: TestApp;

  beforeAll(async () => {
    app = await startApp({ ...setup, platform, sockets: 'ws' });
  });
  afterAll(() => app.close());

  it('is the state of the own request in every service, through awaits, with 100 at once', async () => {
    await inParallel(MANY_CLIENTS, async (index) => {
      const token = `http-${index}`;
      const { body } = await call(app, '/add', { token });
      expect(body).toEqual({ items: [token], count: 2, isSame: true });
      expect(await countOf(app, token)).toBe(2);
    });
    await expectIdle(app);
  });

  it('is the state of the client where several idents are injected, and of another where only that has one', async () => {
    const { body } = await call(app, '/with-a-friend', { token: 'own', headers: { 'x-friend': 'a-friend' } });
    expect(body).toEqual({ own: true, others: false, cart: true, ident: 'own' });
  });

  it('is refused where it could be that of any ident, where nothing is injected, or only to read', async () => {
    const code = 'STATE_NO_CURRENT_STATE';
    const others = await call(app, '/only-others', { token: 'own', headers: { 'x-friend': 'the-friend' } });
    expect(others.body).toEqual({
      code,
      message: expect.stringContaining('ContextController.onlyOthers has turns of 2'),
    });
    expect(JSON.stringify(others.body)).not.toContain('the-friend');
    const readonly = await call(app, '/readonly', { method: 'GET', token: 'own' });
    expect(readonly.body).toEqual({ code, message: expect.stringContaining('only readonly states') });
    const nothing = await call(app, '/nothing', { method: 'GET', token: 'own' });
    expect(nothing.body).toEqual({ code, message: expect.stringContaining('no turn is running here') });
  });

  it('is refused after the turn', async () => {
    answered = new Gate();
    expect((await call(app, '/late', { token: 'late' })).body).toEqual({ count: 1 });
    answered.open();
    expect(await late).toEqual({
      code: 'STATE_NO_CURRENT_STATE',
      message: expect.stringContaining('the turn of ContextController.late has ended'),
    });
  });
});

describe.each(SOCKET_PLATFORMS)('StateContext.current() in a gateway (%s)', (sockets) => {
  it('is the state of the own message in every service, also for the messages of one socket', async () => {
    const app = await startApp({ ...setup, sockets });
    const clients = await Promise.all(
      Array.from({ length: 10 }, (_, index) => connect(app, sockets, `socket-${index}`)),
    );
    await Promise.all(
      clients.map(async (client, index) => {
        const answers = await Promise.all(
          Array.from({ length: 10 }, () => client.request<{ items: string[]; count: number }>('add')),
        );
        expect(answers.map(({ count }) => count)).toEqual([2, 4, 6, 8, 10, 12, 14, 16, 18, 20]);
        expect(new Set(answers.flatMap(({ items }) => items))).toEqual(new Set([`socket-${index}`]));
      }),
    );
    await expectIdle(app);
    await Promise.all(clients.map((client) => client.close()));
    await app.close();
  });
});

describe('StateContext.current() in a microservice', () => {
  it('is the state of the own message in every service, with 100 at once', async () => {
    const options = { host: '127.0.0.1', port: 0 };
    const service = await NestFactory.createMicroservice(rootModule({ ...setup, providers: [Basket] }), {
      transport: Transport.TCP,
      options,
      logger: false,
    });
    await service.listen();
    const { port } = service.unwrap<Server>().address() as AddressInfo;
    const client = ClientProxyFactory.create({ transport: Transport.TCP, options: { ...options, port } });
    await client.connect();
    await inParallel(MANY_CLIENTS, async (index) => {
      const answer = await firstValueFrom(client.send<unknown>('add', { user: `rpc-${index}` }));
      expect(answer).toEqual({ items: [`rpc-${index}`], count: 2 });
    });
    const { count } = await service.get(StateManager).getState(new StateToken('rpc-7', CounterState));
    expect(count).toBe(2);
    await client.close();
    await service.close();
  });
});

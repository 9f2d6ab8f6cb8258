import type { AddressInfo, Server } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import {
  Controller,
  Injectable,
  UseGuards,
  type CanActivate,
  type ExecutionContext,
  type INestMicroservice,
} from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import {
  ClientProxyFactory,
  EventPattern,
  MessagePattern,
  Payload,
  Transport,
  type ClientProxy,
} from '@nestjs/microservices';
import { InjectState, StateGuard, StateManager, StateToken } from 'nestjs-state';
import { firstValueFrom, map, Subject, toArray } from 'rxjs';
import { Gates, inOneQueue, inParallel, until } from '../support/app-gate.js';
import { CounterState, LooseState } from '../support/app-states.js';
import { MANY, rootModule } from '../support/app.js';

interface Order {
  user: string;
}

interface RpcFailure {
  statusCode?: number;
  code?: string;
  message?: string;
  retryAfter?: number;
}

const gates = new Gates();
const streams = new Map<string, Subject<number>>();
const user = (context: ExecutionContext) => context.switchToRpc().getData<Order>().user;

@Injectable()
class RefusingGuard implements CanActivate {
  canActivate(): boolean {
    return false;
  }
}

@Controller()
class OrderController {
  @MessagePattern('increment')
  increment(@InjectState({ ident: user }) counter: CounterState) {
    return { count: counter.increment() };
  }

  @EventPattern('incremented')
  incremented(@InjectState({ ident: user }) counter: CounterState) {
    counter.increment();
  }

  @MessagePattern('read')
  read(@InjectState({ ident: user, readonly: true }) counter: CounterState) {
    return counter;
  }

  @MessagePattern('anonymous')
  anonymous(@InjectState() counter: CounterState) {
    return { count: counter.increment() };
  }

  @MessagePattern('hold')
  async hold(@InjectState({ ident: user }) counter: CounterState, @Payload() order: Order) {
    counter.increment();
    await gates.at(order.user).pass();
    return { count: counter.count };
  }

  @MessagePattern('stream')
  stream(@InjectState({ ident: user }) counter: CounterState, @Payload() order: Order) {
    const later = new Subject<number>();
    streams.set(order.user, later);
    const count = counter.increment();
    return later.pipe(map((value) => value + count));
  }

  @MessagePattern('throw')
  throw(@InjectState({ ident: user }) counter: CounterState) {
    counter.increment();
    throw new Error('of the handler');
  }

  @MessagePattern('spoil')
  spoil(
    @InjectState({ ident: user }) counter: CounterState,
    @InjectState({ ident: user }) loose: LooseState,
  ) {
    counter.increment();
    loose.value = () => 'a function cannot be stored';
  }

  @MessagePattern('refused')
  @UseGuards(RefusingGuard)
  refused(@InjectState({ ident: user }) counter: CounterState) {
    counter.increment();
  }

  @MessagePattern('refused-later')
  @UseGuards(StateGuard, RefusingGuard)
  refusedLater(@InjectState({ ident: user }) counter: CounterState) {
    counter.increment();
  }
}

describe('States in a microservice (TCP)', () => {
  let service: INestMicroservice;
  let client: ClientProxy;
  let states: StateManager;

  beforeAll(async () => {
    const root = rootModule({
      controllers: [OrderController],
      state: { acquireTimeout: '1s', maxWaiters: 60 },
    });
    service = await NestFactory.createMicroservice(root, {
      transport: Transport.TCP,
      options: { host: '127.0.0.1', port: 0 },
      logger: false,
    });
    await service.listen();
    const { port } = service.unwrap<Server>().address() as AddressInfo;
    client = ClientProxyFactory.create({ transport: Transport.TCP, options: { host: '127.0.0.1', port } });
    await client.connect();
    states = service.get(StateManager);
  });

  afterAll(async () => {
    await client.close();
    await service.close();
  });

  function send<T>(pattern: string, order: Partial<Order> = {}): Promise<T> {
    return firstValueFrom(client.send<T>(pattern, order));
  }

  async function failure(pattern: string, order: Partial<Order> = {}): Promise<RpcFailure> {
    return send(pattern, order).then(
      () => {
        throw new Error('It was answered.');
      },
      (error: unknown) => error as RpcFailure,
    );
  }

  async function countOf(ident: string): Promise<number> {
    return (await states.getState(new StateToken(ident, CounterState))).count;
  }

  function expectIdle(): void {
    expect(states.stats()).toMatchObject({ openTurns: 0, waiting: 0 });
  }

  it('are changed one message at a time, and committed before the answer', async () => {
    const counts = await inOneQueue(
      states,
      ['ann'],
      MANY,
      async () => (await send<{ count: number }>('increment', { user: 'ann' })).count,
    );
    expect(counts.sort((a, b) => a - b)).toEqual(Array.from({ length: MANY }, (_, index) => index + 1));
    await inParallel(MANY, async (index) => {
      const order = { user: `user-${index}` };
      expect(await send('increment', order)).toEqual({ count: 1 });
      expect(await countOf(order.user)).toBe(1);
      expect(await send('read', order)).toEqual({ count: 1 });
    });
    expectIdle();
  });

  it('are changed by events', async () => {
    await inParallel(MANY, () =>
      firstValueFrom(client.emit('incremented', { user: 'eve' }), { defaultValue: undefined }),
    );
    const deadlineMs = performance.now() + 5_000;
    while ((await countOf('eve')) < MANY && performance.now() < deadlineMs) await new Promise(setImmediate);
    expect(await countOf('eve')).toBe(MANY);
    expectIdle();
  });

  it.each(['refused', 'refused-later', 'throw', 'spoil'])(
    'are neither changed nor locked after %s',
    async (pattern) => {
      await inParallel(MANY, (index) => failure(pattern, { user: `${pattern}-${index % 10}` }));
      for (let index = 0; index < 10; index += 1) {
        const turn = await states.openTurn(`${pattern}-${index}`, { acquireTimeout: 50 });
        await turn.rollback();
        expect(await countOf(`${pattern}-${index}`)).toBe(0);
      }
      expectIdle();
    },
  );

  it('are not waited for by a message that a guard refuses', async () => {
    const holder = await states.openTurn('guarded');
    const failures = await inParallel(MANY, () => failure('refused', { user: 'guarded' }));
    expect(new Set(failures.map(({ message }) => message))).toEqual(new Set(['Forbidden resource']));
    expect(states.stats()).toMatchObject({ openTurns: 1, waiting: 0 });
    await holder.rollback();
  });

  it('need an ident: without one a message is refused', async () => {
    expect(await failure('anonymous')).toMatchObject({ statusCode: 401, code: 'STATE_INVALID_TOKEN' });
    expect(await failure('increment')).toMatchObject({ statusCode: 400, code: 'STATE_INVALID_TOKEN' });
    expect(await failure('increment', { user: '' })).toMatchObject({ statusCode: 400 });
  });

  it('tell a message to come back when their lock is not to be had', async () => {
    const holder = await states.openTurn('busy');
    const failures = await inParallel(70, () => failure('increment', { user: 'busy' }));
    expect(failures.filter(({ code }) => code === 'STATE_LOCK_TIMEOUT')).toHaveLength(60);
    expect(failures.filter(({ code }) => code === 'STATE_TOO_MANY_WAITERS')).toHaveLength(10);
    for (const { statusCode, retryAfter } of failures) expect([statusCode, retryAfter]).toEqual([503, 1]);
    await holder.rollback();
    expectIdle();
  });

  it('are given back with the first value of a stream, which goes on', async () => {
    await inParallel(MANY, async (index) => {
      const order = { user: `stream-${index}` };
      const values = firstValueFrom(client.send<number>('stream', order).pipe(toArray()));
      await until(() => streams.get(order.user)?.observed === true, 'a listener');
      const next = send('increment', order);
      streams.get(order.user)?.next(10);
      expect(await next).toEqual({ count: 2 });
      streams.get(order.user)?.next(20);
      streams.get(order.user)?.complete();
      expect(await values).toEqual([11, 21]);
    });
    expectIdle();
  });

  it('are readable while a turn is open', async () => {
    const held = send('hold', { user: 'reader' });
    await gates.at('reader').reached;
    const reads = await inParallel(MANY, () => send('read', { user: 'reader' }));
    for (const read of reads) expect(read).toEqual({ count: 0 });
    gates.at('reader').open();
    expect(await held).toEqual({ count: 1 });
    expectIdle();
  });
});

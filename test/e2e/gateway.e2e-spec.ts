import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { Inject, Injectable, Scope, type CanActivate, type ExecutionContext } from '@nestjs/common';
import { APP_GUARD } from '@nestjs/core';
import { MessageBody, SubscribeMessage, WebSocketGateway } from '@nestjs/websockets';
import { InjectState, RequestStates, StateGuard, StateToken } from 'nestjs-state';
import { answer, CounterGateway, streams, type Message } from '../support/app-gateway.js';
import { countOf, expectIdle } from '../support/app-http.js';
import { inOneQueue, inParallel, until } from '../support/app-gate.js';
import { connect, type TestSocket } from '../support/app-sockets.js';
import { CounterState } from '../support/app-states.js';
import { MANY, SOCKET_PLATFORMS, startApp, type TestApp } from '../support/app.js';

/** Makes whatever has it injected request-scoped. */
@Injectable({ scope: Scope.REQUEST })
class Scoped {}

@WebSocketGateway()
class ScopedGateway {
  constructor(@Inject(Scoped) readonly scoped: Scoped) {}

  @SubscribeMessage('increment-scoped')
  increment(@InjectState() counter: CounterState, @MessageBody() { id }: Message) {
    return answer(id, { count: counter.increment() });
  }
}

@Injectable()
class CountBelowThree implements CanActivate {
  constructor(private readonly requests: RequestStates) {}

  async canActivate(context: ExecutionContext): Promise<boolean> {
    return (await this.requests.get(context, CounterState)).count < 3;
  }
}

describe.each(SOCKET_PLATFORMS)('States in a gateway (%s)', (sockets) => {
  let app: TestApp;
  let clients: TestSocket[] = [];

  beforeAll(async () => {
    streams.clear();
    app = await startApp({ sockets, providers: [CounterGateway] });
  });

  afterEach(async () => {
    await Promise.all(clients.map((each) => each.close()));
    clients = [];
  });

  afterAll(() => app.close());

  async function client(token: string, to: TestApp = app): Promise<TestSocket> {
    const socket = await connect(to, sockets, token);
    clients.push(socket);
    return socket;
  }

  it('are changed one message at a time, across the messages of one socket and those of many', async () => {
    const many = await inParallel(10, () => client('crowd'));
    const answers = await inOneQueue(app.states, ['crowd'], 4 * MANY, (index) =>
      (many[index % 10] as TestSocket).request<{ count: number }>('increment-slowly'),
    );
    expect(answers.map(({ count }) => count).sort((a, b) => a - b)).toEqual(
      Array.from({ length: 4 * MANY }, (_, index) => index + 1),
    );
    await expectIdle(app);
  });

  it('are committed before the answer: whoever got it reads the new value', async () => {
    await inParallel(MANY, async (index) => {
      const token = `answered-${index}`;
      const [writer, reader] = await Promise.all([client(token), client(token)]);
      for (let round = 1; round <= 5; round += 1) {
        expect(await writer.request('increment')).toMatchObject({ count: round });
        expect(await countOf(app, token)).toBe(round);
        expect(await reader.request('read')).toMatchObject({ count: round });
      }
    });
    await expectIdle(app);
  });

  it('of rooms are shared by their clients', async () => {
    const members = await inParallel(MANY, (index) => client(`member-${index}`));
    const answers = await Promise.all(
      members.map((member, index) => member.request<{ own: number }>('draw', { room: `r${index % 2}` })),
    );
    expect(answers.every(({ own }) => own === 1)).toBe(true);
    expect([await countOf(app, 'room:r0'), await countOf(app, 'room:r1')]).toEqual([MANY / 2, MANY / 2]);
    await expectIdle(app);
  });

  it('are given back with the first value of a stream, which goes on', async () => {
    await inParallel(MANY, async (index) => {
      const token = `stream-${index}`;
      const [listener, other] = await Promise.all([client(token), client(token)]);
      listener.send('stream', { id: 1 });
      await until(() => streams.get(token)?.observed === true, 'a listener');
      const next = other.request('increment');
      streams.get(token)?.next('first');
      expect(await next).toMatchObject({ count: 2 });
      expect(await listener.next('answer')).toEqual({ id: 1, value: 'first' });
      streams.get(token)?.next('second');
      expect(await listener.next('answer')).toEqual({ id: 1, value: 'second' });
      streams.get(token)?.complete();
    });
    await expectIdle(app);
  });

  it('are injected into request-scoped gateways', async () => {
    const scoped = await startApp({ sockets, providers: [ScopedGateway, Scoped] });
    try {
      const many = await inParallel(10, () => client('scoped', scoped));
      const answers = await inOneQueue(scoped.states, ['scoped'], MANY, (index) =>
        (many[index % 10] as TestSocket).request<{ count: number }>('increment-scoped'),
      );
      expect(answers.map(({ count }) => count).sort((a, b) => a - b)).toEqual(
        Array.from({ length: MANY }, (_, index) => index + 1),
      );
      await expectIdle(scoped);
    } finally {
      await scoped.close();
    }
  });

  it('are read by an APP_GUARD, and StateGuard bound as one opens one turn', async () => {
    const guarded = await startApp({
      sockets,
      providers: [
        CounterGateway,
        { provide: APP_GUARD, useClass: StateGuard },
        {
          provide: APP_GUARD,
          inject: [RequestStates],
          useFactory: (requests: RequestStates) => new CountBelowThree(requests),
        },
      ],
      state: { acquireTimeout: '10s' },
    });
    try {
      await inParallel(10, async (index) => {
        const socket = await client(`limited-${index}`, guarded);
        for (let count = 1; count <= 3; count += 1) {
          expect(await socket.request('increment')).toMatchObject({ count });
        }
        expect((await socket.failure('increment')).message).toBe('Forbidden resource');
        const { count } = await guarded.states.getState(new StateToken(`limited-${index}`, CounterState));
        expect(count).toBe(3);
      });
      await expectIdle(guarded);
    } finally {
      await guarded.close();
    }
  });
});

import { EventEmitter } from 'node:events';
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { CounterGateway, gates } from '../support/app-gateway.js';
import { countOf, expectEntrySoon, expectIdle } from '../support/app-http.js';
import { inParallel, until } from '../support/app-gate.js';
import { connect, type TestSocket } from '../support/app-sockets.js';
import { MANY, SOCKET_PLATFORMS, startApp, type TestApp } from '../support/app.js';

describe.each(SOCKET_PLATFORMS)('The locks of a gateway (%s)', (sockets) => {
  let app: TestApp;
  let clients: TestSocket[] = [];

  beforeAll(async () => {
    gates.reset();
    app = await startApp({ sockets, providers: [CounterGateway] });
  });

  afterEach(async () => {
    await Promise.all(clients.map((each) => each.close()));
    clients = [];
  });

  afterAll(() => app.close());

  async function client(token: string): Promise<TestSocket> {
    const socket = await connect(app, sockets, token);
    clients.push(socket);
    return socket;
  }

  it.each([
    ['a guard that refuses', 'refused', 'Forbidden resource'],
    ['a guard behind StateGuard that refuses', 'refused-later', 'Forbidden resource'],
    ['a slow guard behind StateGuard that refuses', 'refused-slowly', 'Forbidden resource'],
    ['a handler that throws', 'throw', 'Internal server error'],
    ['a commit that fails', 'spoil', 'Internal server error'],
  ])('are neither changed nor locked after %s', async (_case, event, message) => {
    await inParallel(MANY, async (index) => {
      const token = `${event}-${index % 10}`;
      const socket = await client(token);
      expect((await socket.failure(event)).message).toBe(message);
    });
    for (let index = 0; index < 10; index += 1) {
      await expectEntrySoon(app, `${event}-${index}`);
      expect(await countOf(app, `${event}-${index}`)).toBe(0);
    }
    await expectIdle(app);
  });

  it('are not waited for by a message that a guard refuses', async () => {
    const holder = await app.states.openTurn('guarded');
    const socket = await client('guarded');
    await inParallel(MANY, async () =>
      expect((await socket.failure('refused')).message).toBe('Forbidden resource'),
    );
    expect(app.stats()).toMatchObject({ openTurns: 1, waiting: 0 });
    await holder.rollback();
  });

  it('are not locked after an interceptor that does not call the handler', async () => {
    await inParallel(MANY, async (index) => {
      const token = `cached-${index}`;
      const socket = await client(token);
      expect(await socket.request('short-circuit')).toMatchObject({ cached: true });
      await expectEntrySoon(app, token);
    });
    await expectIdle(app);
  });

  it('are not waited for by a client that has left', async () => {
    const tokens = Array.from({ length: MANY }, (_, index) => `leaver-${index}`);
    const sets = await Promise.all(
      tokens.map(async (token) => {
        const [holder, leaver, stayer] = await Promise.all([client(token), client(token), client(token)]);
        const held = holder.request('hold');
        await gates.at(token).reached;
        for (let message = 0; message < 15; message += 1) leaver.send('increment', { id: message });
        return { leaver, stayer, held };
      }),
    );
    await until(() => app.stats().waiting === 15 * MANY, 'the messages of the leavers');
    for (const { leaver } of sets) leaver.terminate();
    await until(() => app.stats().waiting === 0, 'an empty queue');
    expect(app.stats().openTurns).toBe(MANY);
    const stayed = sets.map(({ stayer }) => stayer.request('increment'));
    await until(() => app.stats().waiting === MANY, 'the messages of the stayers');
    for (const token of tokens) gates.at(token).open();
    for (const { held } of sets) expect(await held).toMatchObject({ count: 2 });
    for (const next of stayed) expect(await next).toMatchObject({ count: 3 });
    for (const token of tokens) await expectEntrySoon(app, token);
    await expectIdle(app);
  });

  it('stay locked while the handler runs on after its client has left, and then its commit stands', async () => {
    await inParallel(MANY, async (index) => {
      const token = `left-${index}`;
      const [leaver, next] = await Promise.all([client(token), client(token)]);
      leaver.send('hold', { id: 1 });
      await gates.at(token).reached;
      leaver.terminate();
      const waiting = next.request('increment');
      await expect(app.states.openTurn(token, { acquireTimeout: 20 })).rejects.toMatchObject({
        code: 'STATE_LOCK_TIMEOUT',
      });
      gates.at(token).open();
      expect(await waiting).toMatchObject({ count: 3 });
    });
    await expectIdle(app);
  });

  it('stay locked while the handler runs on after an outer timeout()', async () => {
    await inParallel(MANY, async (index) => {
      const token = `timeout-${index}`;
      const socket = await client(token);
      await socket.failure('timeout');
      const next = socket.request('increment');
      await until(() => app.stats().waiting > 0, 'a waiter');
      gates.at(token).open();
      expect(await next).toMatchObject({ count: 2 });
    });
    await expectIdle(app);
  });

  it('are waited for without a listener for each message, so that Node has no leak to warn of', async () => {
    const socket = await client('busy');
    const { most: before } = await socket.request<{ most: number }>('count-listeners');
    const holder = await app.states.openTurn('busy');
    const answers = inParallel(MANY, () => socket.request('increment'));
    await until(() => app.stats().waiting === MANY, 'all of them in the queue');
    const { most } = await socket.request<{ most: number }>('count-listeners');
    expect(most).toBeLessThanOrEqual(EventEmitter.defaultMaxListeners);
    await holder.rollback();
    await answers;
    for (let round = 0; round < 20; round += 1) {
      await inParallel(20, () => socket.request('increment'));
    }
    const { most: after } = await socket.request<{ most: number }>('count-listeners');
    expect(after).toBeLessThanOrEqual(before + 1);
    await expectIdle(app);
  });
});

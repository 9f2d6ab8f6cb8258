import { createHmac } from 'node:crypto';
import { afterEach, describe, expect, it } from '@jest/globals';
import type { Provider } from '@nestjs/common';
import { ConnectedSocket, MessageBody, SubscribeMessage, WebSocketGateway } from '@nestjs/websockets';
import { InjectState, StateIdent, type StateModuleOptions } from 'nestjs-state';
import { countOf, expectIdle } from '../support/app-http.js';
import { inParallel, until } from '../support/app-gate.js';
import { connect, type Credentials, type IoTestSocket, type TestSocket } from '../support/app-sockets.js';
import { CounterState } from '../support/app-states.js';
import { MANY, SOCKET_PLATFORMS, startApp, type SocketPlatform, type TestApp } from '../support/app.js';

const SECRET = 'the secret of this gateway';

@WebSocketGateway()
class TokenGateway {
  @SubscribeMessage('increment')
  increment(@InjectState() counter: CounterState, @MessageBody() { id }: { id: number }) {
    return { event: 'answer', data: { id, count: counter.increment() } };
  }

  @SubscribeMessage('ident')
  ident(@StateIdent() ident: string, @MessageBody() { id }: { id: number }) {
    return { event: 'answer', data: { id, ident } };
  }

  @SubscribeMessage('acknowledge')
  acknowledge(@InjectState() counter: CounterState) {
    return { count: counter.increment() };
  }
}

/** Its own hook is called as before. */
@WebSocketGateway()
class ConnectedGateway {
  readonly urls: string[] = [];

  handleConnection(_client: object, request?: { url?: string }): void {
    this.urls.push(request?.url ?? 'socket.io');
  }

  @SubscribeMessage('increment')
  increment(
    @InjectState() counter: CounterState,
    @ConnectedSocket() _client: object,
    @MessageBody() { id }: { id: number },
  ) {
    return { event: 'answer', data: { id, count: counter.increment() } };
  }
}

@WebSocketGateway()
class SilentGateway {
  @SubscribeMessage('other')
  other() {}
}

let apps: TestApp[] = [];
let clients: TestSocket[] = [];

afterEach(async () => {
  await Promise.all(clients.map((client) => client.close()));
  await Promise.all(apps.map((app) => app.close()));
  clients = [];
  apps = [];
});

async function startOn(
  sockets: SocketPlatform,
  state: StateModuleOptions = {},
  providers: Provider[] = [TokenGateway],
) {
  const app = await startApp({ sockets, providers, state });
  apps.push(app);
  return app;
}

async function clientOn(
  sockets: SocketPlatform,
  app: TestApp,
  token: string | undefined,
  credentials?: Credentials,
) {
  const socket = await connect(app, sockets, token, credentials);
  clients.push(socket);
  return socket;
}

describe.each(SOCKET_PLATFORMS)('The ident of a gateway client (%s)', (sockets) => {
  const start = startOn.bind(undefined, sockets);
  const client = clientOn.bind(undefined, sockets);

  it('is the header of the handshake, before its cookie', async () => {
    const app = await start();
    await inParallel(10, async () => {
      const socket = await client(app, undefined, {
        headers: { 'x-state-token': 'by-header', cookie: 'state_token=by-cookie' },
      });
      await inParallel(5, () => socket.request('increment'));
    });
    expect([await countOf(app, 'by-header'), await countOf(app, 'by-cookie')]).toEqual([50, 0]);
  });

  it('is the cookie of the handshake', async () => {
    const app = await start();
    await inParallel(10, async (index) => {
      const socket = await client(app, undefined, {
        headers: { cookie: `a=b; state_token=cookie-${index}` },
      });
      expect(await socket.request('ident')).toMatchObject({ ident: `cookie-${index}` });
      await inParallel(5, () => socket.request('increment'));
      expect(await countOf(app, `cookie-${index}`)).toBe(5);
    });
  });

  it('is found in gateways that have a handleConnection of their own, which is still called', async () => {
    const app = await start({}, [ConnectedGateway, SilentGateway]);
    const socket = await client(app, 'connected');
    expect(await socket.request('increment')).toMatchObject({ count: 1 });
    expect(app.nest.get(ConnectedGateway).urls).toEqual([sockets === 'ws' ? '/' : 'socket.io']);
  });

  it('is asked for with an exception when there is none, and none is issued', async () => {
    const app = await start();
    const socket = await client(app, undefined);
    await inParallel(MANY, async () => {
      expect(await socket.failure('increment')).toMatchObject({
        status: 'error',
        statusCode: 401,
        code: 'STATE_INVALID_TOKEN',
      });
    });
    expect(await app.states.count()).toBe(0);
  });

  it.each([
    ['257 characters', { 'x-state-token': 'x'.repeat(257) }],
    ['5,000 characters', { 'x-state-token': 'x'.repeat(5_000) }],
    ['an empty cookie', { cookie: 'state_token=' }],
    ['a NUL in the cookie', { cookie: 'state_token=a%00b' }],
  ])('is refused when it is malformed: %s', async (_case, headers) => {
    const app = await start();
    const socket = await client(app, undefined, { headers: headers as Record<string, string> });
    expect(await socket.failure('increment')).toMatchObject({ statusCode: 400, code: 'STATE_INVALID_TOKEN' });
    expect(await socket.failure('ident')).toMatchObject({ statusCode: 400, code: 'STATE_INVALID_TOKEN' });
  });

  it('is told to come back when its lock is not to be had', async () => {
    const app = await start({ acquireTimeout: 100, maxWaiters: 5 });
    const socket = await client(app, 'busy');
    const holder = await app.states.openTurn('busy');
    const failures = inParallel(MANY, () => socket.failure('increment'));
    await until(() => app.stats().waiting === 5, 'a full queue');
    const codes = (await failures).map(({ status, statusCode, retryAfter, code }) => {
      expect({ status, statusCode, retryAfter }).toEqual({ status: 'error', statusCode: 503, retryAfter: 1 });
      return code;
    });
    expect(codes.filter((code) => code === 'STATE_LOCK_TIMEOUT')).toHaveLength(5);
    expect(codes.filter((code) => code === 'STATE_TOO_MANY_WAITERS')).toHaveLength(MANY - 5);
    await holder.rollback();
    expect(await socket.request('increment')).toMatchObject({ count: 1 });
    await expectIdle(app);
  });

  it('is what a custom resolver says', async () => {
    const app = await start({
      token: { resolver: async (context) => `room:${context.switchToWs().getData<{ room: string }>().room}` },
    });
    const socket = await client(app, undefined);
    await inParallel(MANY, (index) => socket.request('increment', { room: index % 2 }));
    expect([await countOf(app, 'room:0'), await countOf(app, 'room:1')]).toEqual([MANY / 2, MANY / 2]);
  });

  it('is refused when its signature is forged', async () => {
    const app = await start({ token: { secret: SECRET } });
    const signature = createHmac('sha256', SECRET).update('ann').digest('base64url');
    expect(await (await client(app, `ann.${signature}`)).request('ident')).toMatchObject({ ident: 'ann' });
    for (const token of ['ann', `bob.${signature}`]) {
      expect(await (await client(app, token)).failure('increment')).toMatchObject({ statusCode: 401 });
    }
  });
});

describe('The ident of a socket.io client', () => {
  it('is handshake.auth.token, before header and cookie', async () => {
    const app = await startOn('socket.io');
    const headers = { 'x-state-token': 'by-header', cookie: 'state_token=by-cookie' };
    const socket = await clientOn('socket.io', app, undefined, { auth: { token: 'by-auth' }, headers });
    expect(await socket.request('ident')).toMatchObject({ ident: 'by-auth' });
  });

  it('is committed before the acknowledgement', async () => {
    const app = await startOn('socket.io');
    const socket = (await clientOn('socket.io', app, 'acknowledged')) as IoTestSocket;
    for (let count = 1; count <= MANY; count += 1) {
      expect(await socket.socket.emitWithAck('acknowledge', {})).toEqual({ count });
      expect(await countOf(app, 'acknowledged')).toBe(count);
    }
  });

  it.each([
    ['an empty string', ''],
    ['an array', ['a', 'b']],
    ['an object', { toString: 'a' }],
    ['a number', 7],
    ['false', false],
    ['257 characters', 'x'.repeat(257)],
    ['a line feed', 'a\nb'],
    ['half a surrogate pair', '\ud800'],
  ])('is refused when handshake.auth.token is malformed: %s', async (_case, token) => {
    const app = await startOn('socket.io');
    const socket = await clientOn('socket.io', app, undefined, {
      auth: { token },
      headers: { 'x-state-token': 'fine' },
    });
    expect(await socket.failure('increment')).toMatchObject({ statusCode: 400, code: 'STATE_INVALID_TOKEN' });
    expect(await socket.failure('ident')).toMatchObject({ statusCode: 400, code: 'STATE_INVALID_TOKEN' });
  });
});

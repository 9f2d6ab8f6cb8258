import { createHmac } from 'node:crypto';
import { afterEach, describe, expect, it } from '@jest/globals';
import { MessageBody, SubscribeMessage, WebSocketGateway } from '@nestjs/websockets';
import {
  InjectState,
  InjectStateSession,
  StateIdent,
  StateSession,
  type StateModuleOptions,
} from 'nestjs-state';
import { countOf, expectIdle } from '../support/app-http.js';
import { inParallel } from '../support/app-gate.js';
import { connect, type TestSocket } from '../support/app-sockets.js';
import { CounterState } from '../support/app-states.js';
import { MANY, SOCKET_PLATFORMS, startApp, type SocketPlatform, type TestApp } from '../support/app.js';

const SECRET = 'the secret of this gateway';

function sign(ident: string): string {
  return `${ident}.${createHmac('sha256', SECRET).update(ident).digest('base64url')}`;
}

interface Message {
  id: number;
}

interface Login {
  ident: string;
  token: string;
}

@WebSocketGateway()
class SessionGateway {
  @SubscribeMessage('increment')
  increment(
    @InjectState() counter: CounterState,
    @StateIdent() ident: string,
    @MessageBody() { id }: Message,
  ) {
    return { event: 'answer', data: { id, ident, count: counter.increment() } };
  }

  @SubscribeMessage('session')
  session(@InjectStateSession() session: StateSession, @MessageBody() { id }: Message) {
    const { isNew, token, ident } = session;
    return { event: 'answer', data: { id, isNew, token, ident } };
  }

  @SubscribeMessage('login')
  async login(
    @InjectState() counter: CounterState,
    @InjectStateSession() session: StateSession,
    @MessageBody() { id }: Message,
  ) {
    const token = await session.regenerate();
    return { event: 'answer', data: { id, token, ident: session.ident, count: counter.increment() } };
  }

  @SubscribeMessage('login-and-fail')
  async loginAndFail(@InjectState() counter: CounterState, @InjectStateSession() session: StateSession) {
    counter.increment();
    await session.regenerate();
    throw new Error('of the handler');
  }

  @SubscribeMessage('logout')
  async logout(@InjectStateSession() session: StateSession, @MessageBody() { id }: Message) {
    return { event: 'answer', data: { id, existed: await session.destroy() } };
  }
}

let apps: TestApp[] = [];
let clients: TestSocket[] = [];

afterEach(async () => {
  await Promise.all(clients.map((client) => client.close()));
  await Promise.all(apps.map((app) => app.close()));
  clients = [];
  apps = [];
});

describe.each(SOCKET_PLATFORMS)('The session of a gateway client (%s)', (sockets: SocketPlatform) => {
  async function start(state: StateModuleOptions = {}) {
    const app = await startApp({ sockets, providers: [SessionGateway], state });
    apps.push(app);
    return app;
  }

  async function client(app: TestApp, token: string) {
    const socket = await connect(app, sockets, token);
    clients.push(socket);
    return socket;
  }

  it.each([undefined, SECRET])(
    'goes on with its new ident, and the token of it opens other sockets (secret: %s)',
    async (secret) => {
      const app = await start(secret === undefined ? {} : { token: { secret } });
      const tokenOf = (ident: string) => (secret === undefined ? ident : sign(ident));
      await inParallel(10, async (index) => {
        const planted = `client-${index}`;
        const socket = await client(app, tokenOf(planted));
        await socket.request('increment');
        const { ident, token, ...login } = await socket.request<Login>('login');
        expect(login).toMatchObject({ count: 2 });
        expect(token).toBe(tokenOf(ident));
        expect(ident).toMatch(/^[\w-]{32}$/);
        expect(await socket.request('increment')).toMatchObject({ ident, count: 3 });
        expect(await socket.request('session')).toMatchObject({ isNew: false, token, ident });
        const attacker = await client(app, tokenOf(planted));
        expect(await attacker.request('increment')).toMatchObject({ ident: planted, count: 1 });
        expect(await (await client(app, token)).request('increment')).toMatchObject({ ident, count: 4 });
        const again = await socket.request<Login>('login');
        expect(await socket.request('increment')).toMatchObject({ ident: again.ident, count: 6 });
      });
      await expectIdle(app);
    },
  );

  it('keeps its ident when the handler fails', async () => {
    const app = await start();
    const socket = await client(app, 'ann');
    await socket.failure('login-and-fail');
    expect(await socket.request('increment')).toMatchObject({ ident: 'ann', count: 1 });
    await expectIdle(app);
  });

  it('is destroyed: the socket goes on with fresh states', async () => {
    const app = await start();
    const socket = await client(app, 'ann');
    await socket.request('increment');
    expect(await socket.request('logout')).toMatchObject({ existed: true });
    expect(await app.states.count()).toBe(0);
    expect(await socket.request('increment')).toMatchObject({ ident: 'ann', count: 1 });
  });

  it('loses nothing of the messages that are under way at its login', async () => {
    const app = await start();
    const socket = await client(app, 'busy');
    const messages = [
      ...Array.from({ length: MANY }, () => socket.request<{ ident: string }>('increment')),
      socket.request<Login>('login'),
      ...Array.from({ length: MANY }, () => socket.request<{ ident: string }>('increment')),
    ];
    const { ident } = await (messages[MANY] as Promise<Login>);
    const answers = await Promise.all(messages);
    expect(answers.every((answer) => ['busy', ident].includes(answer.ident))).toBe(true);
    expect((await countOf(app, 'busy')) + (await countOf(app, ident))).toBe(2 * MANY + 1);
    await expectIdle(app);
  });

  it('cannot be regenerated where a resolver says who the client is', async () => {
    const app = await start({ token: { resolver: () => 'user:1' } });
    const socket = await client(app, 'ann');
    await socket.request('increment');
    await socket.failure('login');
    expect(await socket.request('increment')).toMatchObject({ ident: 'user:1', count: 2 });
  });
});

import { createHmac } from 'node:crypto';
import { afterEach, describe, expect, it } from '@jest/globals';
import { Body, Controller, Get, Post, Res } from '@nestjs/common';
import {
  InjectState,
  InjectStateSession,
  State,
  StateContext,
  StateError,
  StateIdent,
  StateManager,
  StateSession,
  StateToken,
  type StateModuleOptions,
} from 'nestjs-state';
import { call, expectIdle, type Answer, type Call } from '../support/app-http.js';
import { inParallel, until } from '../support/app-gate.js';
import { HTTP_PLATFORMS, MANY, startApp, type AppSetup, type TestApp } from '../support/app.js';

const SECRET = 'the secret of these sessions';

@State('e2e.visitor')
class VisitorState {
  owner = '';
  count = 0;

  visit(owner: string): { owner: string; count: number } {
    if (this.owner === '') this.owner = owner;
    this.count += 1;
    return { owner: this.owner, count: this.count };
  }
}

@State('e2e.second')
class SecondState {
  count = 0;
}

interface Body {
  owner: string;
}

@Controller()
class SessionController {
  @Post('visit')
  visit(@InjectState() visitor: VisitorState, @Body() { owner }: Body) {
    return visitor.visit(owner);
  }

  @Get('read')
  read(@InjectState({ readonly: true }) { owner, count }: VisitorState) {
    return { owner, count };
  }

  @Get('session')
  session(@InjectStateSession() session: StateSession, @StateIdent() ident: string) {
    const { isNew, token, expiresAt } = session;
    return { isNew, token, expiresAt, isSame: session.ident === ident, json: JSON.stringify(session) };
  }

  @Post('login')
  async login(@InjectState() visitor: VisitorState, @InjectStateSession() session: StateSession) {
    const before = session.ident;
    const token = await session.regenerate();
    visitor.count += 1;
    const second = StateContext.current(SecondState);
    second.count += 1;
    return {
      before,
      token,
      isToken: token === session.token,
      ident: session.ident,
      isCurrent: StateContext.ident() === session.ident,
      isSame: StateContext.current(VisitorState) === visitor,
      visitor,
    };
  }

  @Post('login-alone')
  async loginAlone(@InjectStateSession() session: StateSession) {
    return { token: await session.regenerate() };
  }

  @Post('login-with-room')
  async loginWithRoom(
    @InjectState({ ident: () => 'room:1' }) room: VisitorState,
    @InjectState() visitor: VisitorState,
    @InjectStateSession() session: StateSession,
  ) {
    await session.regenerate();
    room.count += 1;
    StateContext.current(VisitorState).count += 1;
    return { ident: StateContext.ident(), isSame: StateContext.current(VisitorState) === visitor };
  }

  @Post('login-and-fail')
  async loginAndFail(@InjectState() visitor: VisitorState, @InjectStateSession() session: StateSession) {
    visitor.count = 100;
    await session.regenerate();
    throw new Error('of the handler');
  }

  @Post('login-and-spoil')
  async loginAndSpoil(@InjectState() visitor: VisitorState, @InjectStateSession() session: StateSession) {
    await session.regenerate();
    (visitor as unknown as { owner: unknown }).owner = () => 'a function cannot be stored';
  }

  @Post('login-alone-and-fail')
  async loginAloneAndFail(@InjectStateSession() session: StateSession) {
    await session.regenerate();
    throw new Error('of the handler');
  }

  @Post('login-twice')
  async loginTwice(@InjectState() visitor: VisitorState, @InjectStateSession() session: StateSession) {
    const [first, second] = await Promise.all([session.regenerate(), session.regenerate()]);
    visitor.count += 1;
    return { first, second, token: session.token };
  }

  @Post('login-and-logout')
  async loginAndLogout(@InjectState() visitor: VisitorState, @InjectStateSession() session: StateSession) {
    await session.regenerate();
    visitor.count = 100;
    return { existed: await session.destroy(), expires: session.expiresAt ?? null };
  }

  @Post('logout')
  async logout(@InjectState() visitor: VisitorState, @InjectStateSession() session: StateSession) {
    visitor.count = 100;
    return { existed: await session.destroy() };
  }

  @Post('logout-alone')
  async logoutAlone(@InjectStateSession() session: StateSession) {
    return { existed: await session.destroy() };
  }

  @Post('logout-and-fail')
  async logoutAndFail(@InjectState() _visitor: VisitorState, @InjectStateSession() session: StateSession) {
    await session.destroy();
    throw new Error('of the handler');
  }

  @Post('logout-and-login')
  async logoutAndLogin(@InjectState() _visitor: VisitorState, @InjectStateSession() session: StateSession) {
    await session.destroy();
    await session.regenerate();
    StateContext.current(VisitorState).count = 1;
    return { ident: session.ident };
  }

  @Post('logout-and-go-on')
  async logoutAndGoOn(@InjectState() visitor: VisitorState, @InjectStateSession() session: StateSession) {
    await session.destroy();
    visitor.count = 50;
    StateContext.current(VisitorState).count = 5;
    return { ident: session.ident };
  }

  @Post('too-late')
  async tooLate(
    @InjectStateSession() session: StateSession,
    @Res({ passthrough: true }) response: { raw?: { flushHeaders(): void }; flushHeaders?(): void },
  ) {
    const send = response.raw ?? (response as { flushHeaders(): void });
    send.flushHeaders();
    const error: unknown = await session.regenerate().catch((failure: unknown) => failure);
    failures.push(error);
    return '';
  }
}

const failures: unknown[] = [];
let apps: TestApp[] = [];

afterEach(async () => {
  await Promise.all(apps.map((app) => app.close()));
  apps = [];
  failures.length = 0;
});

function setCookies({ headers }: Answer<unknown>): string[] {
  return headers['set-cookie'] ?? [];
}

/** A browser: it keeps its cookie, and its answers. */
class Browser {
  cookie = '';

  constructor(
    private readonly app: TestApp,
    readonly owner = 'somebody',
  ) {}

  async post<T = Record<string, unknown>>(path: string, options: Call = {}): Promise<Answer<T>> {
    const headers = { ...(this.cookie !== '' && { cookie: this.cookie }), ...options.headers };
    const answer = await call<T>(this.app, path, { body: { owner: this.owner }, ...options, headers });
    for (const line of setCookies(answer)) {
      const [pair = ''] = line.split(';');
      this.cookie = line.includes('1970') ? '' : pair;
    }
    return answer;
  }

  get(path: string): Promise<Answer> {
    return this.post(path, { method: 'GET', body: undefined });
  }
}

async function visited(app: TestApp, owner?: string) {
  const browser = new Browser(app, owner);
  await browser.post('/visit');
  return browser;
}

const committed = (app: TestApp, ident: string) => app.states.getState(new StateToken(ident, VisitorState));
const identIn = (cookie: string): string => decodeURIComponent(cookie).split('=')[1]?.split('.')[0] ?? '';

describe.each(HTTP_PLATFORMS)('The session of an HTTP client (%s)', (platform) => {
  async function start(state: StateModuleOptions = {}, setup: AppSetup = {}) {
    const app = await startApp({ platform, controllers: [SessionController], state, ...setup });
    apps.push(app);
    return app;
  }

  it.each([undefined, SECRET])(
    'gets a new ident at login: its states are there, and the old one is fresh (secret: %s)',
    async (secret) => {
      const app = await start(secret === undefined ? {} : { token: { secret } });
      await inParallel(MANY, async (index) => {
        const browser = await visited(app, `owner-${index}`);
        const planted = browser.cookie;
        const { body, headers } = await browser.post<Record<string, string>>('/login');
        expect(body).toMatchObject({
          isToken: true,
          isCurrent: true,
          isSame: true,
          visitor: { owner: `owner-${index}`, count: 2 },
        });
        expect(headers['set-cookie']).toEqual([
          `state_token=${body['token']}; Path=/; HttpOnly; SameSite=Lax`,
        ]);
        expect(body['ident']).toMatch(/^[\w-]{32}$/);
        expect(body['before']).toBe(identIn(planted));
        expect(identIn(browser.cookie)).toBe(body['ident']);
        if (secret !== undefined) {
          const ident = body['ident'] ?? '';
          const signature = createHmac('sha256', secret).update(ident).digest('base64url');
          expect(body['token']).toBe(`${ident}.${signature}`);
        }
        expect((await browser.post('/visit')).body).toEqual({ owner: `owner-${index}`, count: 3 });
        const attacker = await call(app, '/visit', {
          headers: { cookie: planted },
          body: { owner: 'attacker' },
        });
        expect(attacker.body).toEqual({ owner: 'attacker', count: 1 });
        expect(setCookies(attacker)).toEqual([]);
      });
      await expectIdle(app);
    },
  );

  it('gets one without a turn of its own too, which is committed at once', async () => {
    const app = await start();
    for (const path of ['/login-alone', '/login-alone-and-fail']) {
      const browser = await visited(app);
      const planted = browser.cookie;
      const { status } = await browser.post(path);
      expect(status).toBe(path === '/login-alone' ? 201 : 500);
      expect(browser.cookie).not.toBe(planted);
      expect((await browser.get('/read')).body).toEqual({ owner: 'somebody', count: 1 });
      expect((await committed(app, identIn(planted))).count).toBe(0);
    }
    await expectIdle(app);
  });

  it('gets one in a handler that has a room as well, whatever the order of locks', async () => {
    const app = await start();
    const answers = await inParallel(MANY, async () => {
      const browser = await visited(app);
      const { body } = await browser.post<{ ident: string; isSame: boolean }>('/login-with-room');
      expect(body.isSame).toBe(true);
      return committed(app, body.ident);
    });
    expect(answers.every(({ count }) => count === 2)).toBe(true);
    expect((await committed(app, 'room:1')).count).toBe(MANY);
    await expectIdle(app);
  });

  it('keeps cookie and states when the handler fails, or its commit', async () => {
    const app = await start();
    for (const path of ['/login-and-fail', '/login-and-spoil', '/logout-and-fail']) {
      const browser = await visited(app);
      const answer = await browser.post(path);
      expect([answer.status, setCookies(answer)]).toEqual([500, []]);
      expect((await browser.post('/visit')).body).toEqual({ owner: 'somebody', count: 2 });
    }
    expect(await app.states.count()).toBe(3);
    await expectIdle(app);
  });

  it('that is new and fails keeps the ident it was issued', async () => {
    const app = await start();
    const browser = new Browser(app);
    const answer = await browser.post('/login-and-fail');
    expect([answer.status, setCookies(answer).length]).toEqual([500, 1]);
    expect((await browser.get('/session')).body).toMatchObject({ isNew: false });
  });

  it('that is new gets one cookie, that of its last ident', async () => {
    const app = await start();
    const browser = new Browser(app);
    const answer = await browser.post('/login');
    expect(setCookies(answer)).toHaveLength(1);
    expect(identIn(browser.cookie)).toBe(answer.body['ident']);
    expect((await browser.get('/read')).body).toEqual({ owner: '', count: 1 });
    expect(await app.states.count()).toBe(1);
  });

  it('can be regenerated twice, even at once: the last ident has the states', async () => {
    const app = await start();
    const browser = await visited(app);
    const { body, headers } = await browser.post<Record<string, string>>('/login-twice');
    expect(body['token']).toBe(body['second']);
    expect(body['first']).not.toBe(body['second']);
    expect(headers['set-cookie']).toHaveLength(1);
    expect((await browser.get('/read')).body).toEqual({ owner: 'somebody', count: 2 });
    expect(await app.states.count()).toBe(1);
    await expectIdle(app);
  });

  it('is gone after destroy, and so is the cookie', async () => {
    const app = await start();
    for (const path of ['/logout', '/logout-alone', '/login-and-logout']) {
      const browser = await visited(app);
      const planted = browser.cookie;
      const answer = await browser.post(path);
      expect(answer.body).toMatchObject({ existed: true });
      expect(setCookies(answer)).toEqual([
        'state_token=; Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT; HttpOnly; SameSite=Lax',
      ]);
      expect(browser.cookie).toBe('');
      expect(await app.states.count()).toBe(0);
      expect((await committed(app, identIn(planted))).count).toBe(0);
      expect((await browser.post('/visit')).body).toEqual({ owner: 'somebody', count: 1 });
      await browser.post('/logout-alone');
    }
    const nobody = await new Browser(app).post('/logout-alone');
    expect(nobody.body).toEqual({ existed: false });
    expect(setCookies(nobody)).toHaveLength(1);
    await expectIdle(app);
  });

  it('that goes on after destroy is what came last: a new ident, or an old one that the client has no more', async () => {
    const app = await start();
    const browser = await visited(app);
    const { body } = await browser.post<{ ident: string }>('/logout-and-login');
    expect(identIn(browser.cookie)).toBe(body.ident);
    expect((await browser.get('/read')).body).toEqual({ owner: '', count: 1 });
    const { body: after } = await browser.post<{ ident: string }>('/logout-and-go-on');
    expect(browser.cookie).toBe('');
    expect((await committed(app, after.ident)).count).toBe(5);
  });

  it('of a client with a header answers with its new token, and sets no cookie', async () => {
    const app = await start({ token: { secret: SECRET } });
    const browser = await visited(app);
    const token = decodeURIComponent(browser.cookie).replace('state_token=', '');
    const login = await call<{ token: string }>(app, '/login', { token });
    expect(setCookies(login)).toEqual([]);
    expect(login.body.token).not.toBe(token);
    const body = { owner: 'x' };
    expect((await call(app, '/visit', { token: login.body.token, body })).body).toEqual({
      owner: 'somebody',
      count: 3,
    });
    expect((await call(app, '/visit', { token, body })).body).toEqual({ owner: 'x', count: 1 });
    const logout = await call(app, '/logout', { token: login.body.token });
    expect([logout.body, setCookies(logout)]).toEqual([{ existed: true }, []]);
  });

  it('tells whether it is new, its token, and when it would end; and is not serialised', async () => {
    const app = await start({ expiration: '10m', token: { secret: SECRET } });
    const browser = new Browser(app);
    for (const isNew of [true, false]) {
      const before = Date.now();
      const { body } = await browser.get('/session');
      expect(body).toMatchObject({ isNew, isSame: true, json: '{}' });
      expect(`state_token=${body['token'] as string}`).toBe(decodeURIComponent(browser.cookie));
      const leftMs = new Date(body['expiresAt'] as string).getTime() - before;
      expect(leftMs).toBeGreaterThanOrEqual(600_000);
      expect(leftMs).toBeLessThan(660_000);
    }
  });

  it('of a resolver of the application cannot be regenerated, and can be destroyed', async () => {
    const app = await start({ token: { resolver: () => 'user:1' } });
    const visit = () => call(app, '/visit', { body: { owner: 'ann' } });
    await visit();
    expect((await call(app, '/login')).status).toBe(500);
    expect((await call(app, '/session', { method: 'GET' })).body).toMatchObject({ isNew: false });
    expect((await visit()).body).toEqual({ owner: 'ann', count: 2 });
    const logout = await call(app, '/logout');
    expect([logout.body, setCookies(logout)]).toEqual([{ existed: true }, []]);
    expect(await app.states.count()).toBe(0);
    await expectIdle(app);
  });

  it('is not regenerated when the answer has begun', async () => {
    const app = await start();
    const browser = await visited(app);
    await browser.post('/too-late');
    await until(() => failures.length > 0, 'the refusal');
    expect(failures[0]).toBeInstanceOf(StateError);
    expect(failures[0]).toMatchObject({ code: 'STATE_NO_SESSION' });
    expect((await browser.get('/read')).body).toEqual({ owner: 'somebody', count: 1 });
  });

  it('loses nothing of 100 parallel requests at its login, and shows nobody the states of another', async () => {
    const app = await start();
    await inParallel(4, async (index) => {
      const owner = `owner-${index}`;
      const browser = await visited(app, owner);
      const planted = browser.cookie;
      const visits: Promise<Answer<{ owner: string }>>[] = [];
      const visit = (cookie: string) =>
        call<{ owner: string }>(app, '/visit', { headers: { cookie }, body: { owner } });
      for (let count = 0; count < 50; count += 1) visits.push(visit(planted));
      const login = browser.post<{ ident: string; before: string; visitor: { owner: string } }>('/login');
      for (let count = 0; count < 50; count += 1) visits.push(visit(planted));
      const { body } = await login;
      for (let count = 0; count < 10; count += 1) visits.push(visit(browser.cookie));
      const answers = await Promise.all(visits);

      expect(answers.every(({ status }) => status === 201)).toBe(true);
      expect(new Set(answers.map((answer) => answer.body.owner))).toEqual(new Set([owner]));
      const [before, after] = await Promise.all([committed(app, body.before), committed(app, body.ident)]);
      expect(before.count + after.count).toBe(112);
      expect(after.owner).toBe(owner);
    });
    await expectIdle(app);
  });

  it('joins any turn of its ident that the code is inside of', async () => {
    @Controller()
    class ServiceController {
      constructor(private readonly states: StateManager) {}

      @Post('outer')
      async outer(@InjectStateSession() session: StateSession, @Body() { owner }: Body) {
        const before = session.ident;
        const idents: string[] = [];
        const failing = this.states.modifyState(new StateToken(before, VisitorState), async (visitor) => {
          visitor.count = 100;
          await session.regenerate();
          idents.push(session.ident);
          if (owner === 'failing') throw new Error('refused');
        });
        await failing.catch(() => undefined);
        return { before, during: idents[0], after: session.ident };
      }
    }
    Reflect.defineMetadata('design:paramtypes', [StateManager], ServiceController);
    const app = await start({}, { controllers: [SessionController, ServiceController] });
    const browser = await visited(app);
    const failed = await browser.post('/outer', { body: { owner: 'failing' } });
    expect(failed.body['after']).toBe(failed.body['before']);
    expect(failed.body['during']).not.toBe(failed.body['before']);
    expect(setCookies(failed)).toEqual([]);
    const done = await browser.post('/outer');
    expect(done.body['after']).toBe(done.body['during']);
    expect(identIn(browser.cookie)).toBe(done.body['after']);
    expect((await browser.get('/read')).body).toMatchObject({ count: 100 });
    await expectIdle(app);
  });
});

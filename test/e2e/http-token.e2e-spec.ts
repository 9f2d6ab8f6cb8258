import { createHmac } from 'node:crypto';
import { describe, expect, it } from '@jest/globals';
import { Controller, Get, Injectable, Post, UseGuards, type CanActivate } from '@nestjs/common';
import { InjectState, StateGuard, StateIdent } from 'nestjs-state';
import { call, countOf, expectIdle, type Answer } from '../support/app-http.js';
import { inParallel, until } from '../support/app-gate.js';
import { CounterState } from '../support/app-states.js';
import { HTTP_PLATFORMS, MANY, startApp, type AppSetup, type TestApp } from '../support/app.js';

const OLD_SECRET = 'the secret of last year';
const NEW_SECRET = 'the secret of this year';

function sign(ident: string, secret: string): string {
  return `${ident}.${createHmac('sha256', secret).update(ident).digest('base64url')}`;
}

/** Lets the guard's turn be given back before the handler is reached. */
@Injectable()
class SlowGuard implements CanActivate {
  async canActivate(): Promise<boolean> {
    await new Promise((resolve) => setTimeout(resolve, 5));
    return true;
  }
}

@Controller()
class TokenController {
  @Post('increment')
  increment(@InjectState() counter: CounterState) {
    return { count: counter.increment() };
  }

  @Get('read')
  read(@InjectState({ readonly: true }) counter: CounterState) {
    return { count: counter.count };
  }

  @Get('ident')
  ident(@StateIdent() ident: string) {
    return { ident };
  }

  @Post('slow')
  @UseGuards(StateGuard, SlowGuard)
  slow(@InjectState() counter: CounterState) {
    return { count: counter.increment() };
  }
}

function setCookie({ headers }: Answer<unknown>): string[] {
  return headers['set-cookie'] ?? [];
}

function cookieOf(answer: Answer<unknown>): string {
  return setCookie(answer)[0]?.split(';')[0] ?? '';
}

describe.each(HTTP_PLATFORMS)('The ident of an HTTP request (%s)', (platform) => {
  async function withApp(state: AppSetup['state'], use: (app: TestApp) => Promise<void>) {
    const app = await startApp({
      platform,
      controllers: [TokenController],
      state: state ?? {},
    });
    try {
      await use(app);
      await expectIdle(app);
    } finally {
      await app.close();
    }
  }

  it('is the header, before the cookie', () =>
    withApp({}, async (app) => {
      const headers = { cookie: 'a=1; state_token=by-cookie; b=2' };
      await inParallel(MANY, () => call(app, '/increment', { token: 'by-header', headers }));
      expect(await countOf(app, 'by-header')).toBe(MANY);
      expect(await countOf(app, 'by-cookie')).toBe(0);
    }));

  it('is the cookie without a header, and none is set again', () =>
    withApp({}, async (app) => {
      const answers = await inParallel(MANY, () =>
        call(app, '/increment', { headers: { cookie: 'other=x; state_token=by%20cookie' } }),
      );
      expect(await countOf(app, 'by cookie')).toBe(MANY);
      expect(answers.flatMap(setCookie)).toEqual([]);
    }));

  it('is issued to a request without one, as an HttpOnly, SameSite=Lax cookie that leads back to its state', () =>
    withApp({}, async (app) => {
      const cookies = await inParallel(MANY, async () => {
        const first = await call(app, '/increment');
        expect(first.body).toEqual({ count: 1 });
        expect(setCookie(first)).toEqual([
          expect.stringMatching(/^state_token=[\w-]{32}; Path=\/; HttpOnly; SameSite=Lax$/),
        ]);
        const cookie = cookieOf(first);
        const second = await call(app, '/increment', { headers: { cookie } });
        expect(second.body).toEqual({ count: 2 });
        expect(setCookie(second)).toEqual([]);
        return cookie;
      });
      expect(new Set(cookies).size).toBe(MANY);
    }));

  it('has the names that are configured', () =>
    withApp({ token: { cookie: 'sid', header: 'X-Session' } }, async (app) => {
      await call(app, '/increment', { headers: { 'x-session': 'h' } });
      await call(app, '/increment', { headers: { cookie: 'sid=c' } });
      expect([await countOf(app, 'h'), await countOf(app, 'c')]).toEqual([1, 1]);
      expect(cookieOf(await call(app, '/increment', { token: 'not asked for' }))).toMatch(/^sid=/);
    }));

  it('is asked for with 401 when none is issued', () =>
    withApp({ token: { onMissing: 'reject' } }, async (app) => {
      const answers = await inParallel(MANY, () => call(app, '/increment'));
      for (const answer of answers) {
        expect(answer.status).toBe(401);
        expect(answer.body).toMatchObject({ statusCode: 401, code: 'STATE_INVALID_TOKEN' });
        expect(setCookie(answer)).toEqual([]);
      }
      expect((await call(app, '/read', { method: 'GET' })).status).toBe(401);
      expect((await call(app, '/ident', { method: 'GET' })).status).toBe(401);
    }));

  it.each<[string, Record<string, string>]>([
    ['an empty header', { 'x-state-token': '' }],
    ['257 characters', { 'x-state-token': 'x'.repeat(257) }],
    ['5,000 characters', { 'x-state-token': 'x'.repeat(5_000) }],
    ['a tab', { 'x-state-token': 'a\tb' }],
    ['an empty cookie', { cookie: 'state_token=' }],
    ['a cookie of 257 characters', { cookie: `state_token=${'x'.repeat(257)}` }],
    ['a NUL in the cookie', { cookie: 'state_token=a%00b' }],
    ['a line feed in the cookie', { cookie: 'state_token=a%0Ab' }],
    ['an escape in the cookie', { cookie: 'state_token=%1B[31m' }],
  ])('is refused with 400 when it is malformed: %s', (_case, headers) =>
    withApp({}, async (app) => {
      for (const [path, method] of [
        ['/increment', 'POST'],
        ['/read', 'GET'],
        ['/ident', 'GET'],
      ] as const) {
        const answers = await inParallel(10, () => call(app, path, { method, headers }));
        for (const answer of answers) {
          expect(answer.status).toBe(400);
          expect(answer.body).toMatchObject({ statusCode: 400, code: 'STATE_INVALID_TOKEN' });
          expect(setCookie(answer)).toEqual([]);
        }
      }
      expect(await app.states.count()).toBe(0);
    }),
  );

  it('may have 256 characters', () =>
    withApp({}, async (app) => {
      expect((await call(app, '/increment', { token: 'x'.repeat(256) })).body).toEqual({ count: 1 });
    }));

  it.each(['/increment', '/slow'])(
    'is told to come back with 503 when its lock is not to be had in time (%s)',
    (path) =>
      withApp({ acquireTimeout: 30 }, async (app) => {
        const holder = await app.states.openTurn('busy');
        const answers = await inParallel(MANY, () => call(app, path, { token: 'busy' }));
        for (const { status, headers, body } of answers) {
          expect(status).toBe(503);
          expect(headers['retry-after']).toBe('1');
          expect(body).toMatchObject({ statusCode: 503, code: 'STATE_LOCK_TIMEOUT' });
        }
        await holder.rollback();
        expect((await call(app, path, { token: 'busy' })).body).toEqual({ count: 1 });
      }),
  );

  it('is told to come back with 503 when too many are waiting', () =>
    withApp({ maxWaiters: 3 }, async (app) => {
      const holder = await app.states.openTurn('crowded');
      const answers = Array.from({ length: MANY }, () => call(app, '/increment', { token: 'crowded' }));
      await until(() => app.stats().waiting === 3, 'a full queue');
      // The others are not kept waiting for it.
      let refused = 0;
      for (const answer of answers) void answer.then(() => (refused += 1));
      await until(() => refused === MANY - 3, 'the refusals');
      await holder.rollback();
      const all = await Promise.all(answers);
      expect(all.filter(({ status }) => status === 201)).toHaveLength(3);
      for (const { status, headers, body } of all.filter(({ status: each }) => each !== 201)) {
        expect(status).toBe(503);
        expect(headers['retry-after']).toBe('1');
        expect(body).toMatchObject({ code: 'STATE_TOO_MANY_WAITERS' });
      }
    }));

  it('is signed with the first secret, accepted with any, and refused with 401 when forged', () =>
    withApp({ token: { secret: [NEW_SECRET, OLD_SECRET] } }, async (app) => {
      for (const token of [sign('ann', NEW_SECRET), sign('ann', OLD_SECRET)])
        await inParallel(MANY, () => call(app, '/increment', { token }));
      expect(await countOf(app, 'ann')).toBe(2 * MANY);

      const issued = await call(app, '/increment');
      const cookie = cookieOf(issued);
      const [ident = ''] = decodeURIComponent(cookie.replace('state_token=', '')).split('.');
      expect(decodeURIComponent(cookie)).toBe(`state_token=${sign(ident, NEW_SECRET)}`);
      expect((await call(app, '/increment', { headers: { cookie } })).body).toEqual({ count: 2 });

      const genuine = sign('ann', NEW_SECRET);
      const forged = [
        'ann',
        'ann.',
        `ann.${'A'.repeat(43)}`,
        sign('ann', 'a secret of somebody else'),
        genuine.replace('ann', 'bob'),
        genuine.slice(0, -2),
        'x'.repeat(5_000),
      ];
      for (const token of forged) {
        const { status, body } = await call(app, '/increment', { token });
        expect([token.slice(0, 60), status]).toEqual([token.slice(0, 60), 401]);
        expect(body).toMatchObject({ code: 'STATE_INVALID_TOKEN' });
      }
      expect(await countOf(app, 'ann')).toBe(2 * MANY);
      expect((await call(app, '/increment', { token: sign('', NEW_SECRET) })).status).toBe(400);
    }));
});

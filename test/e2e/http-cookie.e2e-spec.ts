import { createHmac } from 'node:crypto';
import { afterEach, describe, expect, it } from '@jest/globals';
import { Controller, Get, Post } from '@nestjs/common';
import { InjectState, InjectStateSession, StateSession, type StateModuleOptions } from 'nestjs-state';
import { call, countOf, expectIdle, type Answer } from '../support/app-http.js';
import { inParallel } from '../support/app-gate.js';
import { CounterState } from '../support/app-states.js';
import { HTTP_PLATFORMS, MANY, startApp, type AppSetup, type TestApp } from '../support/app.js';

const OLD_SECRET = 'the secret of last year';
const NEW_SECRET = 'the secret of this year';

function sign(ident: string, secret: string): string {
  return `${ident}.${createHmac('sha256', secret).update(ident).digest('base64url')}`;
}

@Controller()
class CookieController {
  @Post('increment')
  increment(@InjectState() counter: CounterState) {
    return { count: counter.increment() };
  }

  @Get('session')
  session(@InjectStateSession() { isNew }: StateSession) {
    return { isNew };
  }

  @Post('logout')
  async logout(@InjectStateSession() session: StateSession) {
    return { existed: await session.destroy() };
  }
}

let apps: TestApp[] = [];

afterEach(async () => {
  await Promise.all(apps.map((app) => app.close()));
  apps = [];
});

function setCookies({ headers }: Answer<unknown>): string[] {
  return headers['set-cookie'] ?? [];
}

const withCookie = (token: string) => ({ headers: { cookie: `a=1; state_token=${token}; b=2` } });

describe.each(HTTP_PLATFORMS)('The cookie of an HTTP client (%s)', (platform) => {
  async function start(token: StateModuleOptions['token'] = {}, setup: AppSetup = {}) {
    const app = await startApp({ platform, controllers: [CookieController], state: { token }, ...setup });
    apps.push(app);
    return app;
  }

  it.each([
    ['one from before there was a secret', 'ann'],
    ['one that looks signed', `ann.${'A'.repeat(43)}`],
    ['one of a secret that is not valid any more', sign('ann', 'a secret of somebody else')],
    ['one that is empty', ''],
    ['one that is too long', 'x'.repeat(5_000)],
    ['one with a line feed', 'a%0Ab'],
    ['a signed one that is no ident', sign('', NEW_SECRET)],
  ])('is replaced when it has no valid signature, and is found from then on: %s', async (_case, token) => {
    const app = await start({ secret: NEW_SECRET });
    await inParallel(10, async () => {
      const first = await call(app, '/increment', withCookie(token));
      expect([first.status, first.body]).toEqual([201, { count: 1 }]);
      const [line = '', ...others] = setCookies(first);
      expect(others).toEqual([]);
      const [ident = ''] = line.replace('state_token=', '').split('.');
      expect(line).toBe(`state_token=${sign(ident, NEW_SECRET)}; Path=/; HttpOnly; SameSite=Lax`);
      const second = await call(app, '/increment', { headers: { cookie: line.split(';')[0] ?? '' } });
      expect([second.body, setCookies(second)]).toEqual([{ count: 2 }, []]);
    });
    expect((await call(app, '/session', { method: 'GET', ...withCookie(token) })).body).toEqual({
      isNew: true,
    });
    expect(await countOf(app, 'ann')).toBe(0);
    await expectIdle(app);
  });

  it('is refused instead where none is issued, and a header always is', async () => {
    const rejecting = await start({ secret: NEW_SECRET, onMissing: 'reject' });
    const issuing = await start({ secret: NEW_SECRET });
    for (const token of ['ann', sign('ann', OLD_SECRET)]) {
      for (const [app, options] of [
        [rejecting, withCookie(token)],
        [rejecting, { token }],
        [issuing, { token }],
        [issuing, { token, headers: { cookie: `state_token=${sign('ann', NEW_SECRET)}` } }],
      ] as const) {
        const answer = await call(app, '/increment', options);
        expect([answer.status, setCookies(answer)]).toEqual([401, []]);
      }
    }
    expect([await rejecting.states.count(), await issuing.states.count()]).toEqual([0, 0]);
  });

  it('is the valid one of those that came, as browsers also send those of other paths and domains', async () => {
    const app = await start({ secret: NEW_SECRET });
    const good = sign('bea', NEW_SECRET);
    const stale = ['from before there was a secret', sign('eve', OLD_SECRET), ''];
    const count = async (tokens: readonly string[]) => {
      const cookie = `a=state_token; ${tokens.map((token) => `state_token=${token}`).join('; ')}`;
      const answer = await call(app, '/increment', { headers: { cookie } });
      expect(answer.status).toBe(201);
      return [answer.body['count'], setCookies(answer).length];
    };

    expect(await count([...stale, good])).toEqual([1, 0]);
    expect(await count([good, ...stale, sign('ann', NEW_SECRET)])).toEqual([2, 0]);
    expect(await count(stale)).toEqual([1, 1]);
    // As many as nobody sends who means well are not all tried.
    expect(await count([...Array.from({ length: 50 }, () => 'x'), good])).toEqual([1, 1]);
  });

  it('that an older secret has signed is accepted, and set anew with the signature of the first', async () => {
    const app = await start({ secret: [NEW_SECRET, OLD_SECRET] });
    const answers = await inParallel(MANY, () =>
      call(app, '/increment', withCookie(sign('ann', OLD_SECRET))),
    );
    expect(await countOf(app, 'ann')).toBe(MANY);
    const expected = [`state_token=${sign('ann', NEW_SECRET)}; Path=/; HttpOnly; SameSite=Lax`];
    for (const answer of answers) expect(setCookies(answer)).toEqual(expected);
    const again = await call(app, '/increment', withCookie(sign('ann', NEW_SECRET)));
    expect(setCookies(again)).toEqual([]);
    const byHeader = await call(app, '/increment', { token: sign('ann', OLD_SECRET) });
    expect([byHeader.body, setCookies(byHeader)]).toEqual([{ count: MANY + 2 }, []]);
  });

  it('is accepted in one form alone for each secret', async () => {
    const app = await start({ secret: NEW_SECRET, onMissing: 'reject' });
    const genuine = sign('ann', NEW_SECRET);
    const last = genuine.at(-1) as string;
    const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
    // The last character of 43 stands for four bits: three others decode to the same bytes.
    const twins = [1, 2, 3].map((bits) => genuine.slice(0, -1) + alphabet[alphabet.indexOf(last) ^ bits]);
    const others = [
      ...twins,
      `${genuine}=`,
      `${genuine}A`,
      `${genuine}!`,
      `${genuine}%20`,
      genuine.replace('ann.', 'ann. '),
      genuine.replace('ann.', 'ann..'),
      genuine.toUpperCase(),
      `${genuine}.${genuine}`,
    ];
    expect((await call(app, '/increment', { token: genuine })).status).toBe(201);
    for (const token of others) {
      expect((await call(app, '/increment', { token })).status).toBe(401);
      expect((await call(app, '/increment', withCookie(token))).status).toBe(401);
    }
    expect(await countOf(app, 'ann')).toBe(1);
  });

  it.each<[string, AppSetup, Record<string, string>, boolean]>([
    [
      'over https, as a proxy says that is trusted',
      { trustProxy: true },
      { 'x-forwarded-proto': 'https' },
      true,
    ],
    ['over http, as it says', { trustProxy: true }, { 'x-forwarded-proto': 'http' }, false],
    ['as anybody may say', {}, { 'x-forwarded-proto': 'https' }, false],
  ])('is Secure for a request %s: %#', async (_case, setup, headers, isSecure) => {
    const app = await start({}, setup);
    const [line] = setCookies(await call(app, '/increment', { headers }));
    expect(line?.endsWith(isSecure ? '; HttpOnly; Secure; SameSite=Lax' : '; HttpOnly; SameSite=Lax')).toBe(
      true,
    );
    const forced = await start({ secure: !isSecure }, setup);
    const [other] = setCookies(await call(forced, '/increment', { headers }));
    expect(other?.includes('Secure')).toBe(!isSecure);
  });

  it.each<[NonNullable<StateModuleOptions['token']>, string]>([
    [{ sameSite: 'strict' }, 'Path=/; HttpOnly; SameSite=Strict'],
    [{ sameSite: 'none', secure: true }, 'Path=/; HttpOnly; Secure; SameSite=None'],
    [{ path: '/shop', domain: 'example.org' }, 'Domain=example.org; Path=/shop; HttpOnly; SameSite=Lax'],
    [{ cookie: '__Host-sid', secure: true }, 'Path=/; HttpOnly; Secure; SameSite=Lax'],
  ])('has the attributes that are configured, also when it is taken back: %j', async (token, expected) => {
    const app = await start(token);
    const name = token?.cookie ?? 'state_token';
    const [line = ''] = setCookies(await call(app, '/increment'));
    expect(line.replace(/=[^;]*/, '=')).toBe(`${name}=; ${expected}`);
    const [gone = ''] = setCookies(
      await call(app, '/logout', { headers: { cookie: line.split(';')[0] ?? '' } }),
    );
    expect(gone).toBe(
      `${name}=; ${expected.replace('HttpOnly', 'Expires=Thu, 01 Jan 1970 00:00:00 GMT; HttpOnly')}`,
    );
  });
});

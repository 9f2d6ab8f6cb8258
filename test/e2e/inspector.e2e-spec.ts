import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import {
  Controller,
  Get,
  Injectable,
  UnauthorizedException,
  VersioningType,
  type CallHandler,
  type ExecutionContext,
  type NestInterceptor,
  type VersioningOptions,
} from '@nestjs/common';
import { InjectState, InvalidStateOptionsError, StateInspectorModule, StateToken } from 'nestjs-state';
import { hashIdent } from '../../lib/internal/ident.js';
import { map } from 'rxjs';
import { call } from '../support/app-http.js';
import { INSPECTOR_FILES, MARK, reportOf, storeStates } from '../support/app-inspector.js';
import { CounterState } from '../support/app-states.js';
import { HTTP_PLATFORMS, startApp, startError, type AppSetup, type TestApp } from '../support/app.js';
import { DiskFolder } from '../support/disk-folder.js';
import { RedisServer } from '../support/redis-server.js';

type Authorize = (context: ExecutionContext) => boolean | Promise<boolean>;

const SECRET = 'a-secret-that-nobody-may-see';
const PREFIX = 'prefix-that-nobody-may-see:';
const GET = { method: 'GET' } as const;

const headersOf = (context: ExecutionContext) =>
  context.switchToHttp().getRequest<{ headers: Record<string, string> }>().headers;
const byHeader: Authorize = (context) => headersOf(context)['x-inspector'] === 'let me in';
const LET_IN = { method: 'GET', headers: { 'x-inspector': 'let me in' } } as const;

@Controller()
class CounterController {
  @Get('counter')
  count(@InjectState() counter: CounterState) {
    return { count: counter.increment() };
  }
}

@Injectable()
class Wrapper implements NestInterceptor {
  intercept(_context: ExecutionContext, next: CallHandler) {
    return next.handle().pipe(map((data: unknown) => ({ data })));
  }
}

const inspected = (authorize: Authorize, setup: AppSetup = {}): AppSetup => ({
  controllers: [CounterController],
  imports: [StateInspectorModule.forRoot({ path: 'admin/states', authorize })],
  ...setup,
});

describe.each(HTTP_PLATFORMS)('The inspector on %s', (platform) => {
  let app: TestApp;

  beforeAll(async () => {
    app = await startApp(inspected(byHeader, { platform, state: { token: { secret: SECRET } } }));
    await storeStates(app.states, 20);
  });
  afterAll(() => app.close());

  it.each(INSPECTOR_FILES)(
    'serves %j to whom it lets in, under a policy that lets nothing else in',
    async (file) => {
      const { status, headers } = await call(app, `/admin/states${file}`, LET_IN);
      expect(status).toBe(200);
      expect(headers['content-security-policy']).toContain(
        "default-src 'none'; script-src 'self'; style-src 'self'",
      );
      expect(headers).toMatchObject({
        'cache-control': 'no-store',
        'x-content-type-options': 'nosniff',
        'referrer-policy': 'no-referrer',
      });
      expect(headers['set-cookie']).toBeUndefined();
    },
  );

  it.each(INSPECTOR_FILES)('answers %j to whom it refuses as if it were not there', async (file) => {
    const refused = await call(app, `/admin/states${file}`, GET);
    const unknown = await call(app, '/admin/nothing', GET);
    expect(refused.status).toBe(404);
    expect(refused.body).toEqual({ ...unknown.body, message: `Cannot GET /admin/states${file}` });
    expect(Object.keys(refused.headers).sort()).toEqual(Object.keys(unknown.headers).sort());
  });

  it('tells what is held, who waits, what is stored, and how it is set', async () => {
    const ident = `${MARK}-held`;
    const token = new StateToken(ident, CounterState);
    const turn = await app.states.openTurn(ident, { label: 'Tests.hold' });
    await turn.state(CounterState);
    const waiting = app.states.modifyState(token, () => undefined, { label: 'Tests.wait' });
    const report = await reportOf(app, '/admin/states', LET_IN);
    expect(report).toMatchObject({
      mode: 'memory',
      openTurns: 1,
      waiting: 1,
      states: 25,
      process: expect.stringMatching(/^[0-9a-f]{6}$/) as unknown as string,
      turns: [{ label: 'Tests.hold', identHash: hashIdent(ident), states: ['e2e.counter'], waiting: 1 }],
      oldestWaiter: { label: 'Tests.wait', identHash: hashIdent(ident) },
      expirations: { lastMinute: 0 },
      hasFailed: false,
      census: { idents: 20, isEstimate: false, counted: 20, measured: 20 },
    });
    expect(report.census?.classes).toEqual([
      { name: 'e2e.counter', count: 20, measured: 20, bytes: expect.any(Number) },
      { name: 'e2e.cart', count: 5, measured: 5, bytes: expect.any(Number) },
    ]);
    expect(report.turns[0]?.heldMs).toBeGreaterThan(0);
    expect(report.options).toContainEqual({ name: 'expiration', value: 3_600_000, unit: 'ms' });
    expect(report.options).toContainEqual({ name: 'token.secret', value: 'set' });
    await turn.rollback();
    await waiting;
  });

  it('counts what expires while it is looked at', async () => {
    const short = await startApp(inspected(() => true, { platform, state: { expiration: 50 } }));
    try {
      await call(short, '/admin/states/data', GET);
      await storeStates(short.states, 4);
      for (;;) {
        const { body } = await call<{ expirations: { lastMinute: number } }>(
          short,
          '/admin/states/data',
          GET,
        );
        if (body.expirations.lastMinute === 5) break;
      }
    } finally {
      await short.close();
    }
  });

  it('shows no ident and no secret, in nothing that it serves', async () => {
    await call(app, '/counter', { ...GET, token: `${MARK}-client` });
    await reportOf(app, '/admin/states', LET_IN);
    for (const file of INSPECTOR_FILES) {
      const { body } = await call<unknown>(app, `/admin/states${file}`, LET_IN);
      const text = typeof body === 'string' ? body : JSON.stringify(body);
      expect(text).not.toContain(MARK);
      expect(text).not.toContain(SECRET);
      expect(text.length).toBeGreaterThan(500);
    }
  });

  it('is the same behind a prefix and an interceptor that wraps every answer', async () => {
    const wrapped = await startApp(
      inspected(() => true, {
        platform,
        interceptors: [new Wrapper()],
        configure: (nest) => void nest.setGlobalPrefix('api'),
      }),
    );
    try {
      expect((await call(wrapped, '/api/counter', { ...GET, token: 't' })).body).toEqual({
        data: { count: 1 },
      });
      const page = await call<string>(wrapped, '/api/admin/states?key="><i>', GET);
      // What the page was let in by goes to its files, and is no markup.
      expect(page.body).toMatch(
        / src="\.\/states\/page\.js\?key=(&quot;|%22)(&gt;|%3E)(&lt;|%3C)i(&gt;|%3E)"/,
      );
      expect((await call<string>(wrapped, '/api/admin/states/page.css', GET)).body).toMatch(/^:root/);
      expect((await reportOf(wrapped, '/api/admin/states')).mode).toBe('memory');
    } finally {
      await wrapped.close();
    }
  });

  it.each<VersioningOptions>([
    { type: VersioningType.URI, defaultVersion: '1' },
    { type: VersioningType.HEADER, header: 'x-version', defaultVersion: '1' },
  ])('has no version, as a browser asks for none: $type', async (versioning) => {
    const versioned = await startApp(
      inspected(() => true, { platform, configure: (nest) => void nest.enableVersioning(versioning) }),
    );
    try {
      for (const file of INSPECTOR_FILES)
        expect((await call(versioned, `/admin/states${file}`, GET)).status).toBe(200);
    } finally {
      await versioned.close();
    }
  });
});

describe('Who may look', () => {
  const cases: [string, Authorize, number][] = [
    ['true', () => true, 200],
    ['a promise of true', async () => true, 200],
    ['false', () => false, 404],
    ['a promise of false', async () => false, 404],
    ['nothing', () => undefined as unknown as boolean, 404],
    ['something that is like true', () => 1 as unknown as boolean, 404],
    [
      'an error',
      () => {
        throw new Error('no such user');
      },
      404,
    ],
    ['a promise that rejects', () => Promise.reject(new Error('no such user')), 404],
    ['an HttpException', () => Promise.reject(new UnauthorizedException()), 401],
  ];

  it('is who `authorize` says true of, and nobody else', async () => {
    let answer = cases[0]?.[1] as Authorize;
    const app = await startApp(inspected((context) => answer(context)));
    try {
      for (const [name, authorize, status] of cases) {
        answer = authorize;
        for (const file of INSPECTOR_FILES) {
          const { status: found, body } = await call<unknown>(app, `/admin/states${file}`, GET);
          expect([name, found]).toEqual([name, status]);
          if (status !== 200)
            expect(JSON.stringify(body)).not.toMatch(/openTurns|<html|:root|import\.meta|no such user/);
        }
      }
    } finally {
      await app.close();
    }
  });

  it.each([
    ['no `authorize`', { path: 'states' }, 'authorize: it has to be a function'],
    ['an `authorize` that is no function', { path: 'states', authorize: true }, 'authorize: it has to be'],
    ['no path', { authorize: () => true }, 'path: it has to say'],
    ['an empty path', { path: '/', authorize: () => true }, 'path: it has to say'],
    ['a path with a pattern', { path: 'a/:b', authorize: () => true }, 'path: it has to say'],
    ['an unknown option', { path: 'a', authorize: () => true, title: 'x' }, 'title: unknown option'],
    ['nothing at all', undefined, 'authorize: it has to be a function'],
  ])('has to be said: with %s the application does not start', async (_, options, problem) => {
    const error = await startError({ imports: [StateInspectorModule.forRoot(options as never)] });
    expect(error).toBeInstanceOf(InvalidStateOptionsError);
    expect(error.message).toContain(`StateInspectorModule, ${problem}`);
  });

  it('finds no page in an application that has not imported it', async () => {
    const app = await startApp({ controllers: [CounterController] });
    try {
      for (const path of ['/states', '/admin/states']) expect((await call(app, path, GET)).status).toBe(404);
    } finally {
      await app.close();
    }
  });
});

describe('What is stored elsewhere', () => {
  it('is a sample on Redis, and says of how many it is one', async () => {
    await using server = await RedisServer.start();
    const app = await startApp(
      inspected(() => true, { state: { mode: 'redis', redis: { url: server.url, keyPrefix: PREFIX } } }),
    );
    try {
      await storeStates(app.states, 20);
      const few = await reportOf(app, '/admin/states');
      expect(few).toMatchObject({
        mode: 'redis',
        census: { idents: 20, isEstimate: false, counted: 20, measured: 20 },
      });
      expect(few.census?.classes.map(({ name, count }) => [name, count])).toEqual([
        ['e2e.counter', 20],
        ['e2e.cart', 5],
      ]);
      for (const { bytes, count } of few.census?.classes ?? []) expect(bytes / count).toBeGreaterThan(10);
      const text = JSON.stringify(few);
      for (const secret of [MARK, PREFIX, String(server.port), 'redis://'])
        expect(text).not.toContain(secret);
    } finally {
      await app.close();
    }
  });

  it('is counted on disk, and says nothing of where that is', async () => {
    await using folder = await DiskFolder.create();
    const app = await startApp(
      inspected(() => true, { state: { mode: 'disk', disk: { path: folder.path } } }),
    );
    try {
      await storeStates(app.states, 20);
      const report = await reportOf(app, '/admin/states');
      expect(report).toMatchObject({ mode: 'disk', census: { idents: 20, counted: 20, measured: 20 } });
      expect(report.census?.classes.map(({ name, count, measured }) => [name, count, measured])).toEqual([
        ['e2e.counter', 20, 20],
        ['e2e.cart', 5, 5],
      ]);
      expect(JSON.stringify(report)).not.toContain(MARK);
      expect(JSON.stringify(report)).not.toContain(folder.path);
    } finally {
      await app.close();
    }
  });

  it('is not known while Redis is silent, and the rest is told all the same', async () => {
    await using server = await RedisServer.start();
    const app = await startApp(
      inspected(() => true, { state: { mode: 'redis', redis: { url: server.url, commandTimeout: 100 } } }),
    );
    try {
      await server[Symbol.asyncDispose]();
      for (;;) {
        const { status, body } = await call<{ hasFailed: boolean; mode: string }>(
          app,
          '/admin/states/data',
          GET,
        );
        expect([status, body.mode]).toEqual([200, 'redis']);
        if (body.hasFailed) break;
      }
    } finally {
      await app.close();
    }
  });
});

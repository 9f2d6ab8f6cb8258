import { describe, expect, it } from '@jest/globals';
import {
  Controller,
  Global,
  Inject,
  Injectable,
  Module,
  Post,
  UnauthorizedException,
  type ExecutionContext,
} from '@nestjs/common';
import { InjectState, StateTokenResolver } from 'nestjs-state';
import { call, countOf, expectIdle } from '../support/app-http.js';
import { inParallel } from '../support/app-gate.js';
import { CounterState, LooseState } from '../support/app-states.js';
import { HTTP_PLATFORMS, MANY, startApp, type AppSetup, type TestApp } from '../support/app.js';

function userOf(context: ExecutionContext): string {
  return context.switchToHttp().getRequest<{ headers: Record<string, string> }>().headers['x-user'] ?? '';
}

@Injectable()
class Prefix {
  readonly text = 'prefixed';
}

@Global()
@Module({ providers: [Prefix], exports: [Prefix] })
class PrefixModule {}

@Injectable()
class UserResolver {
  constructor(@Inject(Prefix) private readonly prefix: Prefix) {}

  async resolve(context: ExecutionContext): Promise<string> {
    return `${this.prefix.text}:${userOf(context)}`;
  }
}

@Injectable()
class ExtendingResolver extends StateTokenResolver {
  override resolve(context: ExecutionContext): string | Promise<string> {
    const user = userOf(context);
    return user === '' ? super.resolve(context) : `user:${user}`;
  }
}

function throwUnauthorized(): string {
  throw new UnauthorizedException();
}

function rejectUnauthorized(): Promise<string> {
  return Promise.reject(new UnauthorizedException());
}

/** As those of query builders are. */
class Query {
  // oxlint-disable-next-line unicorn/no-thenable
  then(resolve: (ident: string) => void): void {
    resolve('by-query');
  }
}

@Controller()
class TokenController {
  @Post('increment')
  increment(@InjectState() counter: CounterState) {
    return { count: counter.increment() };
  }

  @Post('two-idents-that-fail')
  twoIdents(
    @InjectState({ ident: throwUnauthorized }) _first: CounterState,
    @InjectState({ ident: rejectUnauthorized }) _second: CounterState,
    @InjectState({ ident: () => rejectUnauthorized() }) _third: LooseState,
  ) {}
}

describe.each(HTTP_PLATFORMS)('The ident that a resolver finds (%s)', (platform) => {
  async function withApp(
    state: AppSetup['state'],
    use: (app: TestApp) => Promise<void>,
    providers: AppSetup['providers'] = [],
  ) {
    const app = await startApp({
      platform,
      controllers: [TokenController],
      imports: [PrefixModule],
      providers,
      state: state ?? {},
    });
    try {
      await use(app);
      await expectIdle(app);
    } finally {
      await app.close();
    }
  }

  it.each<[string, (context: ExecutionContext) => string | Promise<string>]>([
    ['a function', (context) => `user:${userOf(context)}`],
    ['an async function', async (context) => `user:${userOf(context)}`],
  ])('is what the resolver says: %s', (_case, resolver) =>
    withApp({ token: { resolver } }, async (app) => {
      await inParallel(MANY, (index) =>
        call(app, '/increment', { token: 'x', headers: { 'x-user': `${index % 5}` } }),
      );
      for (let user = 0; user < 5; user += 1) expect(await countOf(app, `user:${user}`)).toBe(MANY / 5);
      expect((await call(app, '/increment', { headers: { 'x-user': 'x'.repeat(300) } })).status).toBe(400);
    }),
  );

  it.each([
    ['the application provides', [UserResolver]],
    ['nobody provides', []],
  ])('is what an injectable resolver says that %s', (_case, providers) =>
    withApp(
      { token: { resolver: UserResolver } },
      async (app) => {
        await inParallel(MANY, () => call(app, '/increment', { headers: { 'x-user': 'ann' } }));
        expect(await countOf(app, 'prefixed:ann')).toBe(MANY);
      },
      providers,
    ),
  );

  it('is what a resolver says that extends the one of the library', () =>
    withApp({ token: { resolver: ExtendingResolver } }, async (app) => {
      await call(app, '/increment', { headers: { 'x-user': 'ann' } });
      await call(app, '/increment', { token: 'by-header' });
      expect([await countOf(app, 'user:ann'), await countOf(app, 'by-header')]).toEqual([1, 1]);
    }));

  it.each<[string, () => string | Promise<string>]>([
    [
      'throws',
      () => {
        throw new UnauthorizedException('no user');
      },
    ],
    ['rejects', () => Promise.reject(new UnauthorizedException('no user'))],
  ])('is refused with the error of a resolver that %s', (_case, resolver) =>
    withApp({ token: { resolver } }, async (app) => {
      for (const { status, body } of await inParallel(MANY, () => call(app, '/increment'))) {
        expect(status).toBe(401);
        expect(body).toMatchObject({ message: 'no user' });
      }
    }),
  );

  it('may be what a thenable resolves to that is no Promise, such as a query', () => {
    return withApp({ token: { resolver: () => new Query() as unknown as Promise<string> } }, async (app) => {
      await inParallel(MANY, () => call(app, '/increment'));
      expect(await countOf(app, 'by-query')).toBe(MANY);
    });
  });

  it('may fail for two parameters at once', () =>
    withApp({}, async (app) => {
      // An unhandled rejection, which would end the process, fails the test.
      for (const { status } of await inParallel(MANY, () => call(app, '/two-idents-that-fail')))
        expect(status).toBe(401);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }));
});

import { fileURLToPath } from 'node:url';
import { describe, expect, it } from '@jest/globals';
import { Controller, Global, Inject, Injectable, Module, Post, type DynamicModule } from '@nestjs/common';
import { ConfigModule, ConfigService } from '@nestjs/config';
import {
  InjectState,
  InvalidStateManagerModeError,
  InvalidStateOptionsError,
  STATE_OPTIONS,
  StateModule,
  type ResolvedStateOptions,
  type StateModuleOptions,
  type StateOptionsFactory,
  StateStoreUnavailableError,
} from 'nestjs-state';
import { withEnvironment } from '../support/app-environment.js';
import { call } from '../support/app-http.js';
import { CounterState } from '../support/app-states.js';
import { startApp, startError, type AppSetup } from '../support/app.js';

@Controller()
class CounterController {
  @Post('increment')
  increment(@InjectState() counter: CounterState) {
    return { count: counter.increment() };
  }
}

@Injectable()
class Settings {
  readonly expiration = '3h';
}

@Global()
@Module({ providers: [Settings], exports: [Settings] })
class SettingsModule {}

@Injectable()
class OptionsFactory implements StateOptionsFactory {
  constructor(@Inject(Settings) private readonly settings: Settings) {}

  async createStateOptions(): Promise<StateModuleOptions> {
    return { mode: 'memory', expiration: this.settings.expiration };
  }
}

@Module({ imports: [SettingsModule], providers: [OptionsFactory], exports: [OptionsFactory] })
class FactoryModule {}

/** The options in force in an application with these modules, which has answered a request. */
async function optionsOf(imports: NonNullable<AppSetup['imports']>): Promise<ResolvedStateOptions> {
  const app = await startApp({ state: false, imports, controllers: [CounterController] });
  try {
    expect((await call(app, '/increment', { token: 't' })).body).toEqual({ count: 1 });
    expect(app.stats().mode).toBe('memory');
    return app.nest.get<ResolvedStateOptions>(STATE_OPTIONS);
  } finally {
    await app.close();
  }
}

const HOUR_MS = 3_600_000;

describe('StateModule.forRoot()', () => {
  it('works without options and without a ConfigModule', () =>
    withEnvironment({}, async () => {
      expect(await optionsOf([StateModule.forRoot()])).toMatchObject({
        mode: 'memory',
        expirationMs: HOUR_MS,
      });
    }));

  it('reads the environment without a ConfigModule', () =>
    withEnvironment({ STATE_MANAGER_MODE: 'memory', STATE_TOKEN_EXPIRATION: '2h' }, async () => {
      expect((await optionsOf([StateModule.forRoot()])).expirationMs).toBe(2 * HOUR_MS);
    }));

  it.each([
    ['before', (config: Promise<DynamicModule>) => [config, StateModule.forRoot()]],
    ['after', (config: Promise<DynamicModule>) => [StateModule.forRoot(), config]],
  ])(
    'reads a global ConfigModule that is imported %s it, values of an async `load` included',
    (_order, imports) =>
      withEnvironment({}, async () => {
        const config = ConfigModule.forRoot({
          isGlobal: true,
          ignoreEnvFile: true,
          load: [
            async () => {
              await new Promise((resolve) => setTimeout(resolve, 20));
              return {
                STATE_MANAGER_MODE: 'memory',
                STATE_TOKEN_EXPIRATION: '5h',
                REDIS_URL: 'redis://nowhere',
              };
            },
          ],
        });
        expect((await optionsOf(imports(config))).expirationMs).toBe(5 * HOUR_MS);
      }),
  );

  it('prefers its options to the environment', () =>
    withEnvironment({ STATE_MANAGER_MODE: 'redis', STATE_TOKEN_EXPIRATION: '2h' }, async () => {
      const options = await optionsOf([StateModule.forRoot({ mode: 'memory', expiration: 1_000 })]);
      expect(options.expirationMs).toBe(1_000);
    }));

  it.each([{ REDIS_URL: 'redis://nowhere.invalid' }, { REDIS_URL: 'not a URL at all' }])(
    'takes an explicit mode for what it says, whatever Redis URL there is (%j)',
    (environment) =>
      withEnvironment(environment, async () => {
        expect((await optionsOf([StateModule.forRoot({ mode: 'memory' })])).mode).toBe('memory');
      }),
  );

  it('takes STATE_MANAGER_MODE for what it says, whatever Redis URL there is', () =>
    withEnvironment({ STATE_MANAGER_MODE: 'memory', REDIS_URL: 'redis://nowhere.invalid' }, async () => {
      expect((await optionsOf([StateModule.forRoot()])).mode).toBe('memory');
    }));
});

describe('StateModule.forRootAsync()', () => {
  it('takes a factory with injected dependencies', () =>
    withEnvironment({}, async () => {
      const module = StateModule.forRootAsync({
        imports: [ConfigModule.forRoot({ ignoreEnvFile: true, load: [() => ({ hours: 4 })] })],
        inject: [ConfigService],
        useFactory: async (config: ConfigService) => ({
          mode: 'memory',
          expiration: `${config.get<number>('hours')}h`,
        }),
      });
      expect((await optionsOf([module])).expirationMs).toBe(4 * HOUR_MS);
    }));

  it('takes a class', () =>
    withEnvironment({}, async () => {
      const module = StateModule.forRootAsync({ imports: [SettingsModule], useClass: OptionsFactory });
      expect((await optionsOf([module])).expirationMs).toBe(3 * HOUR_MS);
    }));

  it('takes an existing provider', () =>
    withEnvironment({}, async () => {
      const module = StateModule.forRootAsync({ imports: [FactoryModule], useExisting: OptionsFactory });
      expect((await optionsOf([module])).expirationMs).toBe(3 * HOUR_MS);
    }));

  it('does not start with the options of a factory that are wrong', async () => {
    const module = StateModule.forRootAsync({
      useFactory: () => ({ mode: 'memory', maxHold: 'for ever' as never }),
    });
    const error = await startError({ state: false, imports: [module] });
    expect(error).toBeInstanceOf(InvalidStateOptionsError);
    expect(error.message).toContain('maxHold: "for ever"');
  });
});

function errorOf(options?: StateModuleOptions): Promise<Error> {
  return startError({
    state: false,
    imports: [StateModule.forRoot(options)],
    controllers: [CounterController],
  });
}

describe('An application whose options are wrong', () => {
  it('does not start with an unknown mode, and is told the three there are', () =>
    withEnvironment({ STATE_MANAGER_MODE: 'mongo' }, async () => {
      const error = await errorOf();
      expect(error).toBeInstanceOf(InvalidStateManagerModeError);
      expect(error.message).toContain('STATE_MANAGER_MODE: "mongo"');
      expect(error.message).toContain('memory, redis, disk');
    }));

  it('does not start with an expiration that is no duration', () =>
    withEnvironment({ STATE_MANAGER_MODE: 'memory', STATE_TOKEN_EXPIRATION: 'soon' }, async () => {
      const error = await errorOf();
      expect(error).toBeInstanceOf(InvalidStateOptionsError);
      expect(error.message).toContain('STATE_TOKEN_EXPIRATION: "soon"');
    }));

  it('does not start with a misspelt option', async () => {
    const error = await errorOf({
      mode: 'memory',
      expirationn: '1h',
      token: { header: 'x', cokie: 'y' },
    } as never);
    expect(error).toBeInstanceOf(InvalidStateOptionsError);
    expect(error.message).toContain('expirationn: unknown option');
    expect(error.message).toContain('token.cokie: unknown option');
  });

  it.each([
    ['1s', '1s'],
    ['2s', '1s'],
  ])(
    'does not start with a lockWarningThreshold of %s and a lockExpiration of %s',
    async (threshold, expiration) => {
      const error = await errorOf({
        mode: 'memory',
        lockWarningThreshold: threshold,
        lockExpiration: expiration,
      } as StateModuleOptions);
      expect(error).toBeInstanceOf(InvalidStateOptionsError);
      expect(error.message).toContain('lockWarningThreshold');
      expect(error.message).toContain('lockExpiration');
    },
  );

  it('is told of all problems at once, the mode first', () =>
    withEnvironment({ STATE_MANAGER_MODE: 'mongo', STATE_TOKEN_EXPIRATION: 'soon' }, async () => {
      const error = (await errorOf({ maxWaiters: -1 })) as InvalidStateManagerModeError;
      expect(error.problems).toHaveLength(3);
      expect(error.problems[0]).toContain('mongo');
    }));

  it('with a REDIS_URL alone never falls back to memory: it is told that the server cannot be used', () =>
    withEnvironment({ REDIS_URL: 'redis://user:hidden@127.0.0.1:1' }, async () => {
      const error = await errorOf({ redis: { commandTimeout: 300 } });
      expect(error).toBeInstanceOf(StateStoreUnavailableError);
      expect(error.message).toMatch(/Redis at 127\.0\.0\.1:1 .*ECONNREFUSED/);
      expect(error.message).not.toContain('hidden');
    }));

  it('with mode disk on what is no folder is told that, and which one it is', () =>
    withEnvironment(
      { STATE_MANAGER_MODE: 'disk', STATE_DISK_PATH: fileURLToPath(import.meta.url) },
      async () => {
        const error = await errorOf();
        expect(error).toBeInstanceOf(StateStoreUnavailableError);
        expect(error.message).toMatch(/module\.e2e-spec\.ts cannot be opened: .*EEXIST|ENOTDIR/);
      },
    ));
});

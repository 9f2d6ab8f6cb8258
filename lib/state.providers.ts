import type { FactoryProvider, Provider } from '@nestjs/common';
import { ConfigService } from '@nestjs/config';
import { ModuleRef } from '@nestjs/core';
import { SchedulerRegistry } from '@nestjs/schedule';
import { StateHealthIndicator } from './health/state-health.indicator.js';
import { RequestStates } from './injection/request-states.js';
import { StateHookExplorer } from './injection/state-hook.explorer.js';
import { StateHandlerExplorer } from './injection/state-handler.explorer.js';
import { StateTokenResolver } from './injection/state-token.resolver.js';
import { StateGuard } from './injection/state.guard.js';
import { StateInterceptor } from './injection/state.interceptor.js';
import type { Clock } from './internal/clock.js';
import { MemoryStateManager } from './managers/memory/memory-state.manager.js';
import { StateManager } from './managers/state.manager.js';
import { STATE_OPTIONS, STATE_TESTING } from './state.constants.js';
import { STATE_MODULE_OPTIONS } from './state.module-definition.js';
import type { ResolvedStateOptions, StateModuleOptions } from './state.options.js';
import { resolveStateOptions } from './state.options.resolve.js';

/** What tests put in the place of options and clock. */
interface StateTestingSetup {
  readonly clock: Clock;
  readonly options: StateModuleOptions;
}

const optionsProvider: FactoryProvider<ResolvedStateOptions> = {
  provide: STATE_OPTIONS,
  inject: [
    STATE_MODULE_OPTIONS,
    { token: ConfigService, optional: true },
    { token: STATE_TESTING, optional: true },
  ],
  useFactory: (
    given: StateModuleOptions | undefined,
    configuration: ConfigService | undefined,
    testing: StateTestingSetup | undefined,
  ) => {
    const options = testing === undefined ? given : inTests(given, testing.options);
    // Without a ConfigModule to ask, one of our own still reads the environment.
    const service = configuration ?? new ConfigService();
    return resolveStateOptions(options ?? {}, (key) => service.get<unknown>(key));
  },
};

const managerProvider: FactoryProvider<StateManager> = {
  provide: StateManager,
  inject: [STATE_OPTIONS, ModuleRef, { token: STATE_TESTING, optional: true }],
  useFactory: async (
    options: ResolvedStateOptions,
    moduleRef: ModuleRef,
    testing: StateTestingSetup | undefined,
  ): Promise<StateManager> => {
    if (options.mode === 'redis') {
      // Loaded where it is used: an application that keeps its states in memory pays nothing for it.
      const { RedisStateManager } = await import('./managers/redis/redis-state.manager.js');
      return new RedisStateManager(options);
    }
    let registry: SchedulerRegistry | undefined;
    const schedulers = (): SchedulerRegistry => (registry ??= schedulerRegistryOf(moduleRef));
    if (options.mode === 'memory') return new MemoryStateManager(options, schedulers, testing?.clock);
    const { DiskStateManager } = await import('./managers/disk/disk-state.manager.js');
    return new DiskStateManager(options, schedulers);
  },
};

/** In memory, and with nothing of the options that could keep an application in tests from starting. */
function inTests(given: StateModuleOptions | undefined, options: StateModuleOptions): StateModuleOptions {
  const token = { ...given?.token, ...options.token };
  return { ...given, redis: {}, disk: {}, ...options, token, mode: 'memory' };
}

/** Everything `StateModule` provides. */
export const STATE_PROVIDERS: Provider[] = [
  optionsProvider,
  managerProvider,
  StateTokenResolver,
  RequestStates,
  StateGuard,
  StateInterceptor,
  StateHandlerExplorer,
  StateHookExplorer,
  StateHealthIndicator,
];

/** What of it the application can inject. */
export const STATE_EXPORTS = [
  STATE_OPTIONS,
  StateManager,
  StateTokenResolver,
  RequestStates,
  StateGuard,
  StateInterceptor,
  StateHealthIndicator,
];

/**
 * The application's registry when it has imported ScheduleModule, else one nobody else sees. Importing that module
 * from here would run every cron job of the application twice.
 */
function schedulerRegistryOf(moduleRef: ModuleRef): SchedulerRegistry {
  try {
    return moduleRef.get(SchedulerRegistry, { strict: false });
  } catch {
    return new SchedulerRegistry();
  }
}

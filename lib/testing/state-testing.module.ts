import { Module, type DynamicModule } from '@nestjs/common';
import { STATE_TESTING } from '../state.constants.js';
import { StateModule } from '../state.module.js';
import type { StateModuleOptions } from '../state.options.js';
import { StateTestingClock } from './state-testing.clock.js';
import { StateTesting } from './state-testing.js';

/** Options of a `StateTestingModule`: those of `StateModule` that mean something in memory. */
export type StateTestingOptions = Omit<StateModuleOptions, 'mode' | 'redis' | 'disk'>;

/**
 * States in memory and a clock that tests put forward, whatever the application and the environment say.
 *
 * Provides {@link StateTesting} and {@link StateTestingClock}, beside everything that `StateModule` does.
 */
@Module({})
export class StateTestingModule {
  /** In the place of `StateModule`, for tests of modules that do not import it themselves. */
  static forRoot(options: StateTestingOptions = {}): DynamicModule {
    return { ...StateTestingModule.forApplication(options), imports: [StateModule.forRoot(options)] };
  }

  /**
   * Beside a whole application, which imports `StateModule`: its states are in memory then, and `options` win over those
   * that it gives. `StateModule` is imported once in an application: {@link forRoot} beside it keeps it from starting.
   */
  static forApplication(options: StateTestingOptions = {}): DynamicModule {
    return {
      module: StateTestingModule,
      global: true,
      providers: [
        StateTestingClock,
        StateTesting,
        {
          provide: STATE_TESTING,
          inject: [StateTestingClock],
          useFactory: (clock: StateTestingClock) => ({ clock, options }),
        },
      ],
      exports: [StateTestingClock, StateTesting, STATE_TESTING],
    };
  }
}

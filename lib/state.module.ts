import { Global, Module, type DynamicModule } from '@nestjs/common';
import { ConfigurableStateModule, type StateModuleAsyncOptions } from './state.module-definition.js';
import type { StateModuleOptions } from './state.options.js';
import { STATE_EXPORTS, STATE_PROVIDERS } from './state.providers.js';

/**
 * Gives an application its {@link StateManager} and `@InjectState()`. Import it once, in the root module; it is global.
 *
 * Options win over `ConfigService`, which wins over the defaults. They are checked before anything else happens.
 */
@Global()
@Module({ providers: STATE_PROVIDERS, exports: STATE_EXPORTS })
export class StateModule extends ConfigurableStateModule {
  /**
   * @throws {InvalidStateOptionsError} at start-up, listing everything that is wrong with options and environment.
   * @throws {InvalidStateManagerModeError} at start-up, when the mode is among it.
   */
  static override forRoot(options: StateModuleOptions = {}): DynamicModule {
    return super.forRoot(options);
  }

  /**
   * The same with options that are computed or injected: `useFactory`, `useClass` or `useExisting` (a
   * {@link StateOptionsFactory}).
   *
   * @throws as {@link forRoot} does.
   */
  static override forRootAsync(options: StateModuleAsyncOptions): DynamicModule {
    return super.forRootAsync(options);
  }
}

import { ConfigurableModuleBuilder } from '@nestjs/common';
import type { StateModuleOptions } from './state.options.js';

/** What `forRootAsync({ useClass })` and `useExisting` name. */
export interface StateOptionsFactory {
  /** The options of the module. Called once. */
  createStateOptions(): StateModuleOptions | Promise<StateModuleOptions>;
}

export const {
  ConfigurableModuleClass: ConfigurableStateModule,
  MODULE_OPTIONS_TOKEN: STATE_MODULE_OPTIONS,
  ASYNC_OPTIONS_TYPE: STATE_ASYNC_OPTIONS_TYPE,
} = new ConfigurableModuleBuilder<StateModuleOptions>({ moduleName: 'State' })
  .setClassMethodName('forRoot')
  .setFactoryMethodName('createStateOptions')
  .build();

/** Options of `StateModule.forRootAsync()`. */
export type StateModuleAsyncOptions = typeof STATE_ASYNC_OPTIONS_TYPE;

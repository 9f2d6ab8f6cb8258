import { Module, type DynamicModule } from '@nestjs/common';
import { inspectorControllerAt } from './inspector.controller.js';
import { InspectorGuard } from './inspector.guard.js';
import {
  INSPECTOR_OPTIONS,
  resolveInspectorOptions,
  type StateInspectorOptions,
} from './inspector.options.js';
import { StateInspector } from './state-inspector.js';

/**
 * A page to see inside: open turns, waiters and expirations as they come, the locks that are held longest, how many states
 * of which class there are, the options in force. Only there where it is imported, and only for whom `authorize` lets in.
 *
 * Guarantee: idents are nowhere in it, only their short hashes; nor are secrets, URLs, prefixes and paths. Takes no lock and
 * restarts no window. Cost: nothing while nobody looks; a look is O(open turns). Every five seconds one of them
 * looks at what is stored, in slices, a sample of it on Redis.
 */
@Module({})
export class StateInspectorModule {
  /** @throws {InvalidStateOptionsError} at start-up, without a usable `path` or an `authorize`. */
  static forRoot(options: StateInspectorOptions): DynamicModule {
    const path = (options as Partial<StateInspectorOptions> | undefined)?.path;
    return {
      module: StateInspectorModule,
      controllers: [inspectorControllerAt(typeof path === 'string' ? path : '')],
      providers: [
        // Checked when the application starts, as the options of StateModule are.
        { provide: INSPECTOR_OPTIONS, useFactory: () => resolveInspectorOptions(options) },
        InspectorGuard,
        StateInspector,
      ],
    };
  }
}

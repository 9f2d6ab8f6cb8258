import { map, type OperatorFunction } from 'rxjs';
import type { StateChange } from './state-change.js';

/** What a gateway answers with to have an event sent. */
export interface StateChangeEvent<T> {
  readonly event: string;
  readonly data: StateChange<T>;
}

/**
 * Makes each change an event of that name, as handlers of a gateway return them:
 * `return this.states.watch(token).pipe(toEvents('board'))`. An `@Sse()` handler needs nothing: it returns what `watch`
 * does.
 */
export function toEvents<T>(event: string): OperatorFunction<StateChange<T>, StateChangeEvent<T>> {
  return map((data) => ({ event, data }));
}

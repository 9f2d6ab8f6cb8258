import type { Type } from '@nestjs/common';
import type { Immutable } from 'immer';
import { addDeclaredHook } from '../injection/declared-hooks.js';
import type { StateHookEvent, StateHookReason } from '../managers/state-hooks.js';

/** A method that may be a hook of states of type `T`. */
export type StateHookMethod<T> = (state: Immutable<T>, event: StateHookEvent<T>) => unknown;

/**
 * Lets a method of a provider or a controller be called when something has happened to a state of that class: it was
 * `created`, has `expired`, was `deleted` or `evicted`, or the lock of a turn that used it was lost. It is called with the
 * last committed state (for `lock-lost`: the one the turn began from), immutable, and the event. Several of them on one
 * method are fine.
 *
 * Guarantee: once for each event, in the order of the events of an ident, soon after it, outside of every turn; it may use
 * the `StateManager`. On a store that is shared it is called in the process that saw the event. Failure: what it throws is
 * logged and reaches nobody. Where the class is no state class, or the provider is not a singleton, the application does
 * not start.
 */
export function OnState<T>(
  cls: Type<T>,
  reason: StateHookReason,
): <M extends StateHookMethod<T>>(
  target: object,
  key: string | symbol,
  descriptor: TypedPropertyDescriptor<M>,
) => void {
  return (target, key, descriptor) => {
    if (typeof target === 'function' || typeof descriptor.value !== 'function')
      throw new TypeError(`@OnState() is for methods of instances, and ${String(key)} is none.`);
    addDeclaredHook(descriptor.value, { cls, reason });
  };
}

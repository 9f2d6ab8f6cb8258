import type { ExecutionContext, Type } from '@nestjs/common';
import { STATE_PARAMETERS } from '../state.constants.js';

/** Names whose state a parameter gets, instead of the client's own. */
export type IdentOfContext = (context: ExecutionContext) => string | Promise<string>;

/** What is injected into one parameter of a handler. */
export interface InjectedParameter {
  readonly index: number;
  readonly injects: 'state' | 'ident' | 'session';
  /** The state class; `undefined` where no state is injected. */
  readonly type: Type<unknown> | undefined;
  readonly readonly: boolean;
  readonly ident: IdentOfContext | undefined;
  /** The parameter has to have a state class, and has none that could be found. */
  readonly isTypeMissing: boolean;
}

/** What is injected into a handler, by its function. */
export function injectedParameters(handler: object): readonly InjectedParameter[] | undefined {
  return Reflect.getMetadata(STATE_PARAMETERS, handler) as readonly InjectedParameter[] | undefined;
}

/** Adds a parameter to what is injected into a handler. True for the first one. */
export function addInjectedParameter(handler: object, parameter: InjectedParameter): boolean {
  const others = injectedParameters(handler);
  Reflect.defineMetadata(STATE_PARAMETERS, [...(others ?? []), parameter], handler);
  return others === undefined;
}

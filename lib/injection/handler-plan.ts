import type { Type } from '@nestjs/common';
import { definitionOf, type StateDefinition } from '../internal/state-definition.js';
import { injectedParameters, type IdentOfContext, type InjectedParameter } from './injected-state.js';

/** A parameter, and what its class was declared as; `undefined` when that is no state class. */
export interface PlannedParameter extends InjectedParameter {
  readonly definition: StateDefinition | undefined;
}

/**
 * What a handler has injected, worked out once: read for each request, metadata costs as much as a free lock.
 *
 * Guarantee: what a wrapper of a method copies of its metadata is all there is to it, so its plan says the same.
 */
export class HandlerPlan {
  readonly parameters: readonly PlannedParameter[];
  /** Who says whose states are locked, each of them once: `undefined` is the client's own. */
  readonly locked: readonly (IdentOfContext | undefined)[];
  private cls: Type<unknown> | undefined;
  private label = '';

  constructor(private readonly handler: { readonly name: string }) {
    const parameters = injectedParameters(handler) ?? [];
    this.parameters = parameters.map((parameter) => ({
      ...parameter,
      definition: definitionOf(parameter.type),
    }));
    this.locked = [...new Set(this.parameters.filter(isLocked).map(({ ident }) => ident))];
  }

  /** What warnings call the handler. Controllers that inherit one handler share its plan, not its label. */
  labelIn(cls: Type<unknown>): string {
    if (cls !== this.cls) {
      this.cls = cls;
      this.label = `${cls.name}.${this.handler.name}`;
    }
    return this.label;
  }
}

/** Whether the parameter gets a draft, which needs the lock. */
function isLocked({ type, readonly }: InjectedParameter): boolean {
  return type !== undefined && !readonly;
}

import type { Type } from '@nestjs/common';
import { assertIdent } from './internal/ident.js';
import { definitionOf, type StateDefinition } from './internal/state-definition.js';
import { InvalidStateTokenError } from './state.errors.js';

/**
 * Names one state: whose it is (`ident`) and which one (`cls`).
 *
 * All states of one ident share one lock and one expiration; `storeKey` tells them apart, `lockKey` does not.
 */
export class StateToken<T> {
  /** What `cls` was declared as. For managers. */
  readonly definition: StateDefinition;

  /**
   * @throws {InvalidStateTokenError} `malformed` when `ident` is not a string of 1 to 256 characters without control
   * characters; `not-a-state-class` when `cls` has no `@State()` of its own.
   */
  constructor(
    readonly ident: string,
    readonly cls: Type<T>,
  ) {
    assertIdent(ident);
    this.definition = requireDefinition(cls);
  }

  /** What is stored: unique for ident and class. It contains the ident, which is a credential: never log it. */
  get storeKey(): string {
    // A class name contains no slash, so no ident can make two keys meet.
    return `${this.definition.name}/${this.ident}`;
  }

  /** What is locked: the ident alone. */
  get lockKey(): string {
    return this.ident;
  }

  /** The token of another state of the same ident. @throws {InvalidStateTokenError} as the constructor does. */
  withClass<U>(cls: Type<U>): StateToken<U> {
    return new StateToken(this.ident, cls);
  }
}

/** The definition of `cls`. @throws {InvalidStateTokenError} `not-a-state-class` when it has no `@State()` of its own. */
export function requireDefinition(cls: unknown): StateDefinition {
  const definition = definitionOf(cls);
  if (definition !== undefined) return definition;
  const name = typeof cls === 'function' ? cls.name : String(cls);
  throw new InvalidStateTokenError(
    'not-a-state-class',
    `${name} is not a state class: decorate it with @State().`,
  );
}

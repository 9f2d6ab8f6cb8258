import { StateSerializationError } from '../state.errors.js';
import { seal } from './seal.js';
import type { StateDefinition } from './state-definition.js';

/**
 * An immutable copy of `state`, as an instance of its class: whatever has the fields of the class becomes one, as it
 * would when it is read back from a server.
 *
 * @throws {StateSerializationError} when it is no object, an instance of another class, or holds what cannot be stored.
 */
export function stateFields({ cls, name }: StateDefinition, state: unknown): object {
  if (typeof state !== 'object' || state === null) {
    throw new StateSerializationError(
      name,
      `is ${state === null ? 'null' : `of type ${typeof state}`}, not a state.`,
    );
  }
  const fields = seal<object>(state, { name, copy: true }).value;
  if (fields instanceof cls) return fields;
  if (Object.getPrototypeOf(fields) === Object.prototype) return Object.assign(new cls(), fields);
  throw new StateSerializationError(name, `is not an instance of ${cls.name}.`);
}

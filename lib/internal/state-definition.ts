import { types } from 'node:util';
import { immerable } from 'immer';

/** A class the library can create without arguments. */
export type StateClass<T extends object = object> = new () => T;

/** What `@State()` knows of a class. */
export interface StateDefinition<T extends object = object> {
  readonly cls: StateClass<T>;
  /** What its states are stored under. */
  readonly name: string;
  /** The version written into its records. */
  readonly version: number;
  /** Turns the fields of an older version into those of this one. */
  readonly migrate: ((old: Record<string, unknown>, version: number) => object) | undefined;
}

// In the global registry, so that a class decorated by one copy of the package is known to another.
const DEFINITION = Symbol.for('nestjs-state:definition');

// A record names the classes of the states nested in it, and nothing but the name leads to them. On the global object
// for the same reason; it only ever holds what decorators have declared.
const DEFINITIONS = Symbol.for('nestjs-state:definitions');

function definitions(): Map<string, StateDefinition> {
  const holder = globalThis as { [DEFINITIONS]?: Map<string, StateDefinition> };
  return (holder[DEFINITIONS] ??= new Map());
}

/** The class declared last under `name`, for reading a state that is nested in another one. */
export function findDefinition(name: string): StateDefinition | undefined {
  return definitions().get(name);
}

/** Marks `definition.cls` as a state class. A subclass is not one until it is marked itself. */
export function defineState(definition: StateDefinition): void {
  definitions().set(definition.name, definition);
  Object.defineProperty(definition.cls, DEFINITION, { value: definition, configurable: true });
  // Of the prototype as well: a state may have a field named `constructor`, which hides the class from Immer.
  for (const holder of [definition.cls, definition.cls.prototype as object])
    Object.defineProperty(holder, immerable, { value: true, configurable: true });
}

/** The definition of `cls`, or `undefined` when that is not a class with `@State()` of its own. */
export function definitionOf(cls: unknown): StateDefinition | undefined {
  if (typeof cls !== 'function' || !Object.hasOwn(cls, DEFINITION)) return undefined;
  return (cls as unknown as Record<typeof DEFINITION, StateDefinition>)[DEFINITION];
}

/**
 * The state that `fields`, written by `version` of the class, stand for today: fields that are new have their
 * defaults, an older version went through `migrate`.
 *
 * @throws when the record is of a newer version, or `migrate` throws or returns no object.
 */
export function upgrade(
  definition: StateDefinition,
  fields: Record<string, unknown>,
  version: number,
): object {
  if (version > definition.version) {
    throw new Error(`it is of version ${version}, and this process knows ${definition.version}`);
  }
  const current =
    version < definition.version && definition.migrate !== undefined
      ? definition.migrate(fields, version)
      : fields;
  if (typeof current !== 'object' || current === null) throw new Error('`migrate` returned no object');
  // A promise has no fields: the state would be taken for one that has none, and be stored as that.
  if (types.isPromise(current)) throw new Error('`migrate` returned a promise: it must not be async');
  // Assigned, it would make a state of another class.
  if (Object.hasOwn(current, '__proto__')) throw new Error('it has a forbidden key');
  return Object.assign(new definition.cls(), current);
}

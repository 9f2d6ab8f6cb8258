import type { Immer } from 'immer';

type Method = (this: never, ...parameters: never[]) => unknown;

const SET_METHODS = [
  'union',
  'intersection',
  'difference',
  'symmetricDifference',
  'isSubsetOf',
  'isSupersetOf',
  'isDisjointFrom',
];

const MAP_METHODS = {
  getOrInsert(this: Map<unknown, unknown>, key: unknown, value: unknown): unknown {
    if (!this.has(key)) this.set(key, value);
    return this.get(key);
  },
  getOrInsertComputed(
    this: Map<unknown, unknown>,
    key: unknown,
    compute: (key: unknown) => unknown,
  ): unknown {
    if (!this.has(key)) this.set(key, compute(key));
    return this.get(key);
  },
};

/** What changes a Map, and Immer does not know of. */
export const UNKNOWN_MUTATORS = Object.keys(MAP_METHODS).filter((name) => name in Map.prototype);

/**
 * Gives Immer's drafts of Maps and Sets those methods of the language that it does not know. A draft is a subclass whose own
 * Map or Set is empty: what it inherits would look there, and say that nothing is in it.
 */
export function completeDrafts(immer: Immer): void {
  const sets = prototypeOfDrafts(immer, new Set());
  for (const name of SET_METHODS) {
    const method = (Set.prototype as unknown as Record<string, Method | undefined>)[name];
    if (method === undefined) continue;
    define(sets, name, function (this: Set<unknown>, other: unknown): unknown {
      return Reflect.apply(method, new Set(this), [other]);
    });
  }
  const maps = prototypeOfDrafts(immer, new Map());
  for (const name of UNKNOWN_MUTATORS) define(maps, name, MAP_METHODS[name as keyof typeof MAP_METHODS]);
}

function prototypeOfDrafts(immer: Immer, container: object): object {
  const draft = immer.createDraft(container);
  const prototype = Object.getPrototypeOf(draft) as object;
  immer.finishDraft(draft);
  return prototype;
}

function define(prototype: object, name: string, value: unknown): void {
  if (!Object.hasOwn(prototype, name))
    Object.defineProperty(prototype, name, { value, writable: true, configurable: true });
}

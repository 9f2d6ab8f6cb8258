import { types } from 'node:util';
import { freeze, immerable, isDraft } from 'immer';
import { StateSerializationError } from '../state.errors.js';
import { UNKNOWN_MUTATORS } from './draft-methods.js';
import { definitionOf } from './state-definition.js';

/** Deeper than any real state, and shallow enough for the stack: what lies below is taken for a circle. */
const MAX_DEPTH = 1_000;
/** Deeper than this it takes a look whether a store can follow: each level costs a store some of the stack. */
const DEEP = 200;
/** How many steps of a path are shown. */
const SHOWN_STEPS = 32;
const IDENTIFIER = /^[\w$]+$/;

/** What {@link seal} made of a value. */
export interface Sealed<T> {
  readonly value: T;
  /** It holds typed arrays. They cannot be frozen, so every reader has to get its own copy. */
  readonly binary: boolean;
  /** It is nested so deeply that a store may not be able to follow. */
  readonly deep: boolean;
}

export interface SealOptions {
  /** What the path in an error starts with: the name of the state. */
  readonly name: string;
  /** An earlier sealed value: what is identical to it is known to be good and is not looked at again. */
  readonly base?: unknown;
  /** Seal a deep copy, leaving `value` and everything in it as it is. @default false */
  readonly copy?: boolean;
  /** With `copy`: leave the copy mutable. @default false */
  readonly thaw?: boolean;
}

/**
 * Checks that `value` consists of what every store can hold, resolves the drafts in it and freezes it.
 *
 * Guarantee: the result is deeply immutable, except for typed arrays, which are copies nobody else has. Cost: one
 * visit for each object that is not identical to its counterpart in `base`.
 *
 * @throws {StateSerializationError} naming the path of the first value that cannot be stored.
 */
export function seal<T>(value: T, options: SealOptions): Sealed<T> {
  const sealer = new Sealer(options);
  try {
    const sealed = sealer.seal(value, options.base) as T;
    return { value: sealed, binary: sealer.binary, deep: sealer.deep };
  } catch (error) {
    throw error instanceof StateSerializationError ? error : sealer.unreadable(error);
  }
}

/** One step into a value: a field, an index, or the key of a map. */
type PathStep = string | number | { entry: unknown };

class Sealer {
  binary = false;
  deep = false;
  private readonly path: PathStep[] = [];

  constructor(private readonly options: SealOptions) {}

  private get pathText(): string {
    const steps = this.path.map(showStep);
    // Around a circle it goes on for ever, and whoever reads it has seen where it leads by then.
    const rest = steps.length - SHOWN_STEPS;
    return (
      this.options.name + steps.slice(0, SHOWN_STEPS).join('') + (rest > 0 ? `… (${rest} more steps)` : '')
    );
  }

  /** What stands where the walk is now threw while it was read: a revoked draft, a hostile proxy. */
  unreadable(cause: unknown): StateSerializationError {
    return new StateSerializationError(
      this.pathText,
      'cannot be read: is it a part of a state whose turn has ended, or of this one, as the key of a Map or in a frozen ' +
        'object? Put a copy there.',
      { cause },
    );
  }

  seal(value: unknown, base: unknown): unknown {
    if (typeof value === 'function' || typeof value === 'symbol') return this.refuse(`is a ${typeof value}`);
    if (isPrimitive(value) || value === base) return value;
    if (this.path.length > DEEP) this.deep = true;
    if (this.path.length > MAX_DEPTH) this.refuse(`is circular, or deeper than ${MAX_DEPTH} levels`);
    // A draft is taken for what it looks like now: it dies with its turn.
    if (isDraft(value)) return this.sealObject(value, base, true);
    // A root with a base is Immer's own copy, which nobody else has.
    const isOwn = this.path.length === 0 && base !== undefined;
    return this.sealObject(value, base, this.options.copy === true && !isOwn);
  }

  private sealObject(value: object, base: unknown, copy: boolean): unknown {
    const prototype: object | null = Object.getPrototypeOf(value);
    if (prototype === null) return this.refuse('is an object without a prototype');
    if (Array.isArray(value) && Object.hasOwn(prototype, 'push')) return this.sealArray(value, base, copy);
    if (isPlain(prototype) || isStateInstance(prototype))
      return this.sealFields(value, prototype, base, copy);
    if (types.isDate(value)) return this.sealDate(value, prototype);
    if (types.isMap(value) && Object.hasOwn(prototype, 'set')) return this.sealMap(value, base, copy);
    if (types.isSet(value) && Object.hasOwn(prototype, 'add')) return this.sealSet(value, copy);
    if (types.isTypedArray(value) && Object.hasOwn(prototype, 'BYTES_PER_ELEMENT')) {
      this.binary = true;
      return value.slice();
    }
    return this.refuse(`is an instance of ${nameOf(prototype)}, which is no state class`);
  }

  private sealFields(value: object, prototype: object, base: unknown, copy: boolean): object {
    const fields = value as Record<string, unknown>;
    const baseFields = base as Record<string, unknown> | undefined;
    // Reading an accessor would run foreign code in the middle of a commit, and each store would keep something else
    // of it. A root with a base is Immer's own copy, which has none.
    const isTrusted = this.path.length === 0 && base !== undefined;
    const isLive = isDraft(value);
    let target = copy ? (Object.create(prototype) as Record<string, unknown>) : fields;
    for (const symbol of Object.getOwnPropertySymbols(value)) {
      if (symbol !== immerable) this.refuseAt({ entry: symbol }, 'has a symbol for a key');
    }
    for (const key of Object.keys(fields)) {
      if (key === '__proto__') this.refuseAt(key, 'has a forbidden key');
      if (!isTrusted && isAccessor(fields, key)) this.refuseAt(key, 'is an accessor, not a value');
      const child = isLive ? storedIn(fields, key) : fields[key];
      const sealed = isPrimitive(child) ? child : this.sealAt(key, child, baseFields?.[key]);
      if (target !== fields) target[key] = sealed;
      else if (sealed !== child) {
        if (Object.isFrozen(fields)) target = Object.assign(Object.create(prototype) as object, fields);
        target[key] = sealed;
      }
    }
    return this.freeze(target);
  }

  private sealArray(value: readonly unknown[], base: unknown, copy: boolean): readonly unknown[] {
    const baseItems = Array.isArray(base) ? (base as readonly unknown[]) : undefined;
    let known: ReadonlySet<unknown> | undefined;
    const isLive = isDraft(value);
    // All at once is much faster than item by item; of a draft it would make a draft of each of them.
    const items = copy && !isLive ? (Array.prototype.slice.call(value) as readonly unknown[]) : value;
    let target = isLive ? [] : (items as unknown[]);
    for (let index = 0; index < items.length; index += 1) {
      const item = isLive ? storedIn(items, index) : items[index];
      if (item === undefined && !(index in items)) this.refuseAt(index, 'is a hole in an array');
      let sealed = item;
      if (isPrimitive(item)) {
        // Nothing to look into.
      } else if (baseItems === undefined) {
        sealed = this.sealAt(index, item, undefined);
      } else if (item !== baseItems[index]) {
        // After a splice every item stands elsewhere: those of the base are good wherever they stand. All of them are
        // frozen: what is not is one that has changed, and needs no search.
        const isFrozen = Object.isFrozen(item);
        if (isFrozen) known ??= new Set(baseItems);
        if (!isFrozen || known?.has(item) !== true) sealed = this.sealAt(index, item, baseItems[index]);
      }
      if (target !== items) target[index] = sealed;
      else if (sealed !== item) {
        if (Object.isFrozen(items)) target = items.slice();
        target[index] = sealed;
      }
    }
    return this.freeze(target);
  }

  private sealMap(value: ReadonlyMap<unknown, unknown>, base: unknown, copy: boolean): object {
    const baseMap = types.isMap(base) ? (base as ReadonlyMap<unknown, unknown>) : undefined;
    const entries: [unknown, unknown][] = [];
    let replaced = copy;
    for (const [key, item] of value) {
      const step = { entry: key };
      const sealedKey = isPrimitive(key) ? key : this.sealAt(step, key, undefined);
      const sealed = this.sealAt(step, item, baseMap?.get(key));
      replaced ||= sealed !== item || sealedKey !== key;
      entries.push([sealedKey, sealed]);
    }
    return this.freeze(replaced ? new Map(entries) : value);
  }

  private sealSet(value: ReadonlySet<unknown>, copy: boolean): object {
    const items: unknown[] = [];
    let replaced = copy;
    for (const item of value) {
      const sealed = this.sealAt(items.length, item, undefined);
      replaced ||= sealed !== item;
      items.push(sealed);
    }
    return this.freeze(replaced ? new Set(items) : value);
  }

  private sealDate(value: Date, prototype: object): Date {
    if (this.options.thaw) return new Date(value.getTime());
    if (value instanceof SealedDate) return value;
    if (!Object.hasOwn(prototype, 'toISOString')) this.refuse(`is an instance of ${nameOf(prototype)}`);
    return Object.freeze(new SealedDate(value.getTime()));
  }

  private freeze<C extends object>(container: C): C {
    if (this.options.thaw || Object.isFrozen(container)) return container;
    // Immer's freeze also takes the mutating methods from a Map or a Set, which `Object.freeze` leaves working: those it knows.
    if (types.isMap(container))
      for (const name of UNKNOWN_MUTATORS) Object.defineProperty(container, name, { value: refuseToChange });
    return types.isMap(container) || types.isSet(container) ? freeze(container) : Object.freeze(container);
  }

  private sealAt(step: PathStep, value: unknown, base: unknown): unknown {
    this.path.push(step);
    const sealed = this.seal(value, base);
    this.path.pop();
    return sealed;
  }

  private refuseAt(step: PathStep, problem: string): never {
    this.path.push(step);
    return this.refuse(problem);
  }

  private refuse(problem: string): never {
    throw new StateSerializationError(
      this.pathText,
      `${problem}. A state may hold plain objects, arrays, Map, Set, Date, typed arrays, primitives and instances of @State() classes.`,
    );
  }
}

function showStep(step: PathStep): string {
  if (typeof step === 'number') return `[${step}]`;
  if (typeof step === 'string') return IDENTIFIER.test(step) ? `.${step}` : `[${JSON.stringify(step)}]`;
  const { entry } = step;
  return `[${typeof entry === 'string' ? JSON.stringify(entry) : isPrimitive(entry) || typeof entry === 'symbol' ? String(entry) : 'object'}]`;
}

/** Whether there is nothing in `value` that could be changed. */
export function isPrimitive(value: unknown): value is string | number | boolean | bigint | null | undefined {
  return (
    value === null || (typeof value !== 'object' && typeof value !== 'function' && typeof value !== 'symbol')
  );
}

/** What stands at `key` of a draft. Reading it from the draft would make another draft of it. */
function storedIn(draft: object, key: PropertyKey): unknown {
  return Object.getOwnPropertyDescriptor(draft, key)?.value;
}

function isAccessor(fields: object, key: string): boolean {
  const descriptor = Object.getOwnPropertyDescriptor(fields, key);
  return descriptor?.get !== undefined || descriptor?.set !== undefined;
}

function isPlain(prototype: object): boolean {
  return (
    prototype === Object.prototype ||
    (Object.getPrototypeOf(prototype) === null && Object.hasOwn(prototype, 'hasOwnProperty'))
  );
}

function isStateInstance(prototype: object): boolean {
  return Object.hasOwn(prototype, 'constructor') && definitionOf(prototype.constructor) !== undefined;
}

function nameOf(prototype: object): string {
  return (prototype.constructor as { name?: string } | undefined)?.name ?? 'an unknown class';
}

function refuseToChange(): never {
  throw new TypeError('A Map in a stored state is immutable.');
}

/**
 * A date nobody can change: `Object.freeze` does not stop `setTime`, and Immer makes no drafts of dates, so a stored
 * date that a handler turns forward would change what is stored, without a commit.
 */
class SealedDate extends Date {}

for (const name of Object.getOwnPropertyNames(Date.prototype)) {
  if (!name.startsWith('set')) continue;
  Object.defineProperty(SealedDate.prototype, name, {
    value: () => {
      throw new TypeError(`A date in a state is immutable: assign a new Date instead of calling ${name}().`);
    },
  });
}
// `value.constructor` is what serializers and matchers go by, and to them it is a Date.
Object.defineProperty(SealedDate.prototype, 'constructor', { value: Date });

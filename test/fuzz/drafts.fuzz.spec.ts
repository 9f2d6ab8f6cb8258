import { inspect } from 'node:util';
import { describe, expect, it } from '@jest/globals';
import { State } from 'nestjs-state';
import { seal } from '../../lib/internal/seal.js';
import { definitionOf, type StateDefinition } from '../../lib/internal/state-definition.js';
import { StateDraft } from '../../lib/internal/state-draft.js';
import { seededRandom } from '../conformance/harness.js';
import { SEED, tries } from './bytes.js';

const TURNS = tries(5);

@State('fuzz.leaf')
class Leaf {
  value: unknown = 0;
}

@State('fuzz.tree')
class Tree {
  object: Record<string, unknown> = {};
  list: unknown[] = [];
  map = new Map<unknown, unknown>();
  set = new Set<unknown>();
  leaf = new Leaf();
  number = 0;
}

const definition = definitionOf(Tree) as StateDefinition;
const KEYS = ['a', 'b', 'c', '1'];

type Container = unknown[] | Map<unknown, unknown> | Set<unknown> | Record<string, unknown>;
/** The same thing twice: in a model that is changed as any object is, and in a draft. */
interface Twin {
  readonly model: unknown;
  readonly draft: unknown;
}

/** Does the same to a model and to a draft: whatever comes of the one has to come of the other. */
class Twins {
  private readonly random: () => number;
  /** What somebody has read before, and may use wherever it stands by now. */
  private held: Twin[] = [];

  constructor(seed: number) {
    this.random = seededRandom(seed);
  }

  below(limit: number): number {
    return Math.floor(this.random() * limit);
  }

  pick<T>(choices: readonly T[]): T {
    return choices[this.below(choices.length)] as T;
  }

  /** Something new, without any part of a state. */
  plain(depth = 0): unknown {
    const kind = this.below(depth > 2 ? 2 : 8);
    const children = Array.from({ length: this.below(3) }, () => kind > 1 && this.plain(depth + 1));
    if (kind === 0) return this.below(100);
    if (kind === 1) return this.pick(['text', undefined, null, Number.NaN, true]);
    if (kind === 2) return Object.assign(new Leaf(), { value: children });
    if (kind === 3) return new Map(children.map((child) => [this.pick(KEYS), child]));
    if (kind === 4) return new Set(children);
    if (kind === 5) return new Date(this.below(1_000));
    if (kind === 6) return Object.fromEntries(children.map((child) => [this.pick(KEYS), child]));
    return children;
  }

  tree(): Tree {
    return Object.assign(new Tree(), {
      object: { a: this.plain(), b: this.plain() },
      list: [this.plain(), this.plain(), this.plain()],
      map: new Map([['a', this.plain()]]),
      set: new Set([this.plain(), this.plain()]),
    });
  }

  /** What a turn does. */
  change(root: Twin): void {
    this.held = [];
    for (let step = this.below(9); step >= 0; step -= 1) {
      const place = this.somewhere(root);
      const value = this.value(root);
      // A circle is refused, which is not what is looked for here.
      if (!isContainer(place.model) || holds(value.model, place.model)) continue;
      const action = this.random();
      const key = this.pick(KEYS);
      const index = this.below(4);
      put(place.model, value.model, { action, key, index });
      put(place.draft as Container, value.draft, { action, key, index });
    }
  }

  private somewhere(root: Twin): Twin {
    if (this.held.length > 0 && this.below(3) === 0) return this.pick(this.held);
    let { model, draft } = root;
    for (let depth = this.below(4); depth > 0; depth -= 1) {
      const inside = childrenOf(model);
      if (inside.length === 0) break;
      const index = this.below(inside.length);
      model = inside[index];
      draft = childrenOf(draft)[index];
    }
    if (this.below(2) === 0) this.held.push({ model, draft });
    return { model, draft };
  }

  /** Something new, a part of the state, or something new that holds parts of it. */
  private value(root: Twin): Twin {
    const kind = this.below(8);
    if (kind < 2) {
      const model = this.plain();
      return { model, draft: cloneOf(model) };
    }
    const part = this.somewhere(root);
    if (kind < 4) return part;
    const wrap = WRAPPERS[kind - 4] as (part: unknown, other: unknown) => unknown;
    const other = this.somewhere(root);
    const wrapped = { model: wrap(part.model, other.model), draft: wrap(part.draft, other.draft) };
    if (this.below(2) === 0) this.held.push(wrapped);
    return wrapped;
  }
}

const WRAPPERS: readonly ((part: unknown, other: unknown) => unknown)[] = [
  (part, other) => ({ part, others: [other] }),
  (part, other) => [part, [other, part]],
  (part, other) => new Map([['part', part], ['other', { other }]]), // prettier-ignore
  (part, other) => new Set([part, [other]]),
];

function isContainer(value: unknown): value is Container {
  return typeof value === 'object' && value !== null && !(value instanceof Date);
}

function contentOf(container: Container): unknown[] {
  return container instanceof Map || container instanceof Set
    ? [...container.values()]
    : Object.values(container);
}

/** The containers in it, in its order. */
function childrenOf(value: unknown): Container[] {
  return isContainer(value) ? contentOf(value).filter(isContainer) : [];
}

function holds(value: unknown, wanted: unknown, seen = new Set<unknown>()): boolean {
  if (value === wanted) return true;
  if (!isContainer(value) || seen.has(value)) return false;
  seen.add(value);
  return contentOf(value).some((item) => holds(item, wanted, seen));
}

function put(
  place: Container,
  value: unknown,
  { action, key, index }: { action: number; key: string; index: number },
): void {
  if (Array.isArray(place)) {
    if (action < 0.3) place.push(value);
    else if (action < 0.5) place.splice(index, 1, value);
    else if (action < 0.6) place.unshift(value);
    else if (action < 0.7) place.shift();
    else if (action < 0.8) place.reverse();
    else if (index < place.length) place[index] = value;
  } else if (place instanceof Map) {
    if (action < 0.8) place.set(key, value);
    else place.delete(key);
  } else if (place instanceof Set) {
    if (action < 0.9) place.add(value);
    else place.clear();
  } else if (place instanceof Tree) {
    if (action < 0.5) place.object = { value };
    else place.number = action;
  } else if (place instanceof Leaf) {
    place.value = value;
  } else if (action < 0.8) {
    place[key] = value;
  } else {
    delete place[key];
  }
}

/** The same values, each of them once for each place it stands at, and nothing frozen. */
function cloneOf<T>(value: T): T;
function cloneOf(value: unknown): unknown {
  if (value instanceof Date) return new Date(value.getTime());
  if (!isContainer(value)) return value;
  if (Array.isArray(value)) return value.map((item) => cloneOf(item));
  if (value instanceof Map) return new Map([...value].map(([key, item]) => [key, cloneOf(item)]));
  if (value instanceof Set) return new Set([...value].map((item) => cloneOf(item)));
  const clone = Object.create(Object.getPrototypeOf(value) as object) as Record<string, unknown>;
  for (const key of Object.keys(value)) clone[key] = cloneOf(value[key]);
  return clone;
}

/** The first thing in it that can be changed. */
function mutableIn(value: unknown): unknown {
  if (!isContainer(value)) return undefined;
  if (!Object.isFrozen(value)) return value;
  return contentOf(value)
    .map(mutableIn)
    .find((found) => found !== undefined);
}

describe(`drafts (FUZZ_SEED=${SEED})`, () => {
  it.each(['finish', 'read'] as const)(
    `end (%s) in what the same changes make of any object, over ${TURNS} turns`,
    (end) => {
      for (let turn = 0; turn < TURNS; turn += 1) {
        const twins = new Twins(SEED + turn);
        const began = twins.tree();
        const base = seal<object>(cloneOf(began), { name: 'tree' });
        const model = cloneOf(began);
        const draft = new StateDraft(definition, base);
        twins.change({ model, draft: draft.value });
        const expected = cloneOf(model);
        const hint = `FUZZ_SEED=${SEED + turn}: ${inspect(began, { depth: 9 })}`;
        let ended: object;
        try {
          ended = draft[end]().value;
        } catch (error) {
          throw new Error(hint, { cause: error });
        }
        draft.discard();

        try {
          expect(cloneOf(ended)).toStrictEqual(expected);
          expect(mutableIn(ended)).toBeUndefined();
          expect(cloneOf(base.value)).toStrictEqual(began);
        } catch (error) {
          throw new Error(hint, { cause: error });
        }
        expect(() => (draft.value as Tree).list).toThrow(TypeError);
      }
    },
    300_000,
  );
});

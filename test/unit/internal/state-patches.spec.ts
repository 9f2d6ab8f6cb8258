import { describe, expect, it } from '@jest/globals';
import { immutableJSONPatch, type JSONPatchDocument } from 'immutable-json-patch';
import { State, StateSerializationError } from 'nestjs-state';
import { jsonPatch, toJson } from '../../../lib/internal/json-patch.js';
import { definitionOf, type StateDefinition } from '../../../lib/internal/state-definition.js';
import { freshSnapshot, patched, StateDraft, type Snapshot } from '../../../lib/internal/state-draft.js';
import type { StatePatch } from '../../../lib/internal/state-patches.js';
import { seededRandom } from '../../conformance/harness.js';

@State('patched-item')
class ItemState {
  label = '';
  parts: unknown[] = [];
}

@State('patched')
class PatchedState {
  value: unknown = 0;
  object: Record<string, unknown> = {};
  list: unknown[] = [];
  named: Map<unknown, unknown> = new Map();
  odd: Map<unknown, unknown> = new Map([[1, 'one']]);
  tags: Set<unknown> = new Set();
  item = new ItemState();
}

const definition = definitionOf(PatchedState) as StateDefinition;

interface Changed {
  readonly before: Snapshot;
  readonly after: Snapshot;
  readonly patches: readonly StatePatch[] | undefined;
}

function change(before: Snapshot, mutate: (state: PatchedState) => void, isRead = false): Changed {
  const draft = new StateDraft(definition, before);
  mutate(draft.value as PatchedState);
  const after = isRead ? draft.read() : draft.finish();
  return { before, after, patches: draft.patches(after) };
}

function changed(...mutations: ((state: PatchedState) => void)[]): Changed {
  let last = change(freshSnapshot(definition), () => undefined);
  for (const mutate of mutations) last = change(last.after, mutate);
  return last;
}

function operations({ before, after }: Changed): unknown {
  return jsonPatch(before.value, after.value);
}

function expectToLeadThere({ before, after, patches }: Changed): void {
  if (patches === undefined) return;
  // What is sent is text.
  const sent = JSON.parse(JSON.stringify(jsonPatch(before.value, after.value))) as JSONPatchDocument;
  expect(immutableJSONPatch(toJson(before.value), sent)).toStrictEqual(toJson(after.value));
  expect(patched(definition, before, copiesOf(patches)).value).toStrictEqual(after.value);
}

/** As a process gets it that reads of it: nothing in it is an object of the snapshot. */
function copiesOf(patches: readonly StatePatch[]): StatePatch[] {
  return patches.map((patch) => (patch.op === 'set' ? { ...patch, value: copyOf(patch.value) } : patch));
}

function copyOf(value: unknown): unknown {
  if (value instanceof ItemState)
    return Object.assign(new ItemState(), { ...value, parts: copyOf(value.parts) });
  if (Array.isArray(value)) return value.map(copyOf);
  if (value instanceof Map) return new Map(Array.from(value, ([key, item]) => [copyOf(key), copyOf(item)]));
  if (value instanceof Set) return new Set(Array.from(value, copyOf));
  if (value instanceof Date) return new Date(value.getTime());
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, copyOf(item)]));
}

/** Changes a state at random, in every way that code may. */
class Mutator {
  private readonly random: () => number;

  constructor(seed: number) {
    this.random = seededRandom(seed);
  }

  mutate(state: PatchedState): void {
    for (let steps = 1 + this.below(5); steps > 0; steps -= 1) this.step(state, 0);
  }

  private below(limit: number): number {
    return Math.floor(this.random() * limit);
  }

  private pick<T>(items: readonly T[]): T {
    return items[this.below(items.length)] as T;
  }

  private step(container: unknown, depth: number): void {
    const children = childrenOf(container);
    if (depth < 4 && children.length > 0 && this.random() < 0.6) {
      this.step(this.pick(children), depth + 1);
      return;
    }
    if (Array.isArray(container)) this.changeList(container);
    else if (container instanceof Map) this.changeMap(container as Map<unknown, unknown>);
    else if (container instanceof Set) this.changeSet(container as Set<unknown>);
    else if (container instanceof ItemState) this.changeItem(container);
    else if (container instanceof PatchedState) this.changeRoot(container);
    else if (typeof container === 'object' && container !== null && !(container instanceof Date))
      this.changeObject(container as Record<string, unknown>);
  }

  private changeRoot(state: PatchedState): void {
    const moved = this.pick([state.value, state.object, state.list, state.item, ...state.list]);
    this.pick([
      () => (state.value = this.value()),
      () => (state.value = moved),
      () => (state.object['moved'] = moved === state.object ? 1 : moved),
      () => (state.list = [...state.list, moved === state.list ? 2 : moved]),
      () => (state.object = {}),
      () => delete (state as Partial<PatchedState>).value,
    ])();
  }

  private changeItem(item: ItemState): void {
    if (this.random() < 0.5) item.label = String(this.below(5));
    else item.parts.push(this.value());
  }

  private changeList(list: unknown[]): void {
    this.pick([
      () => list.push(this.value()),
      () => list.push(this.value(), this.value()),
      () => list.pop(),
      () => list.shift(),
      () => list.unshift(this.value()),
      () => list.splice(this.below(3), this.below(3), this.value()),
      () => list.splice(0, list.length, ...list.toReversed()),
      () => list.sort(() => this.random() - 0.5),
      () => (list.length = this.below(list.length + 1)),
      () => list.length > 0 && (list[this.below(list.length)] = this.value()),
      () => list.length > 1 && ([list[0], list[1]] = [list[1], list[0]]),
    ])();
  }

  private changeMap(map: Map<unknown, unknown>): void {
    const key = this.pick(['a', 'b', 'c/d', '~', '__proto__', ...(this.random() < 0.3 ? [1, 2] : [])]);
    this.pick([
      () => map.set(key, this.value()),
      () => map.delete(key),
      () => this.random() < 0.1 && map.clear(),
    ])();
  }

  private changeSet(set: Set<unknown>): void {
    this.pick([
      () => set.add(this.below(4)),
      () => set.add({ in: this.below(4) }),
      () => set.delete(this.below(4)),
    ])();
  }

  private changeObject(object: Record<string, unknown>): void {
    const key = this.pick(['a', 'b', 'c/d', 'm~n', '', '0']);
    this.pick([
      () => (object[key] = this.value()),
      () => (object[key] = undefined),
      () => delete object[key],
    ])();
  }

  private value(): unknown {
    return this.pick([
      () => this.below(10),
      () => String(this.below(10)),
      () => null,
      () => undefined,
      () => Number.NaN,
      () => BigInt(this.below(9)),
      () => new Date(this.below(1000)),
      () => ({ a: this.below(3), b: { c: this.below(3) } }),
      () => [this.below(3), { a: 1 }],
      () => new Map<unknown, unknown>([['a', this.below(3)]]),
      () => new Set([this.below(3)]),
      () => new ItemState(),
    ])();
  }
}

function childrenOf(container: unknown): unknown[] {
  if (typeof container !== 'object' || container === null || container instanceof Date) return [];
  const values =
    container instanceof Map || container instanceof Set ? [...container.values()] : Object.values(container);
  return values.filter((value) => typeof value === 'object' && value !== null);
}

describe('the patches of a turn', () => {
  it('name the one place that was changed', () => {
    expect(
      operations(
        changed(
          (state) => (state.object = { a: { b: 1 } }),
          (state) => ((state.object['a'] as { b: number }).b = 2),
        ),
      ),
    ).toStrictEqual([{ op: 'replace', path: '/object/a/b', value: 2 }]);
  });

  it('add to the end of a list, and take from it', () => {
    expect(operations(changed((state) => state.list.push('x', 'y')))).toStrictEqual([
      { op: 'add', path: '/list/0', value: 'x' },
      { op: 'add', path: '/list/1', value: 'y' },
    ]);
    expect(
      operations(
        changed(
          (state) => state.list.push(1, 2, 3),
          (state) => (state.list.length = 1),
        ),
      ),
    ).toStrictEqual([
      { op: 'remove', path: '/list/2' },
      { op: 'remove', path: '/list/1' },
    ]);
  });

  it('go by what JSON has a place for', () => {
    expect(
      operations(
        changed(
          (state) => (state.object = { gone: 1, hidden: undefined, empty: undefined }),
          (state) =>
            Object.assign(state.object, { gone: undefined, hidden: 2 }) && delete state.object['empty'],
        ),
      ),
    ).toStrictEqual([
      { op: 'remove', path: '/object/gone' },
      { op: 'add', path: '/object/hidden', value: 2 },
    ]);
  });

  it('take nothing for there that an object only inherits', () => {
    const inherited = changed((state) => {
      state.object = Object.assign(state.object, { constructor: 1, valueOf: undefined });
    });
    expect(operations(inherited)).toStrictEqual([{ op: 'add', path: '/object/constructor', value: 1 }]);
  });

  it('escape names, and know Maps, Sets and dates', () => {
    const date = new Date(0);
    const told = operations(
      changed((state) => {
        state.object['a/b~c'] = date;
        state.named.set('', 1n);
        state.odd.set('two', 2);
        state.tags.add('t');
      }),
    );

    expect(told).toHaveLength(4);
    expect(told).toEqual(
      expect.arrayContaining([
        { op: 'add', path: '/object/a~1b~0c', value: date.toISOString() },
        { op: 'add', path: '/named/', value: '1' },
        {
          op: 'replace',
          path: '/odd',
          value: [
            [1, 'one'],
            ['two', 2],
          ],
        },
        { op: 'replace', path: '/tags', value: ['t'] },
      ]),
    );
  });

  it('are not told of a state that began fresh, or holds bytes', () => {
    const fresh = new StateDraft(definition, freshSnapshot(definition), true);
    (fresh.value as PatchedState).value = 1;
    expect(fresh.patches(fresh.finish())).toBeUndefined();
    expect(changed((state) => (state.value = new Uint8Array(1))).patches).toBeUndefined();
  });

  it.each([false, true])('lead from each state to the next, whatever is done (read first: %s)', (isRead) => {
    for (let seed = 1; seed <= 500; seed += 1) {
      const mutator = new Mutator(seed);
      let snapshot = freshSnapshot(definition);
      for (let turn = 0; turn < 6; turn += 1) {
        let step: Changed;
        try {
          step = change(snapshot, (state) => mutator.mutate(state), isRead);
        } catch (error) {
          // It has moved something into itself.
          expect(error).toBeInstanceOf(StateSerializationError);
          continue;
        }
        try {
          expectToLeadThere(step);
        } catch (error) {
          throw new Error(`Seed ${seed}, turn ${turn}: ${JSON.stringify(toJson(step.before.value))}`, {
            cause: error,
          });
        }
        snapshot = step.after;
      }
    }
  });
});

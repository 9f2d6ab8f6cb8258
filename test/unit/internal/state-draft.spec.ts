import { describe, expect, it } from '@jest/globals';
import { State, StateSerializationError } from 'nestjs-state';
import { definitionOf, type StateDefinition } from '../../../lib/internal/state-definition.js';
import { freshSnapshot, readable, StateDraft } from '../../../lib/internal/state-draft.js';

@State('plain')
class PlainState {
  count = 0;
  nested: { n: number; list: unknown[] } = { n: 1, list: [] };
}

@State('flat')
class FlatState {
  count = 0;
  name = 'n';
}

@State('binary')
class BinaryState {
  bytes = new Uint8Array(2);
  part = { bytes: new Uint8Array(2) };
}

const plain = definitionOf(PlainState) as StateDefinition;
const flat = definitionOf(FlatState) as StateDefinition;
const binary = definitionOf(BinaryState) as StateDefinition;

const begin = (definition = plain) => {
  const base = freshSnapshot(definition);
  const draft = new StateDraft(definition, base);
  return { base, draft, value: draft.value as PlainState & BinaryState };
};

/** Calls a method that this Node may not have. */
function call(target: object, name: string, ...parameters: unknown[]): unknown {
  return Reflect.apply((target as Record<string, () => unknown>)[name] as () => unknown, target, parameters);
}

/** What `run` throws. */
function failureOf(run: () => unknown): unknown {
  try {
    run();
  } catch (error) {
    return error;
  }
  throw new Error('It has not thrown.');
}

describe.each([
  ['finish', (draft: StateDraft) => draft.finish()],
  ['read', (draft: StateDraft) => draft.read()],
])('StateDraft.%s', (_, end) => {
  it('gives the very snapshot it was made from when nothing was changed', () => {
    const { base, draft, value } = begin();
    expect(value.nested.n).toBe(1);
    expect(end(draft)).toBe(base);
    expect(draft.hasChanged(base)).toBe(false);
  });

  it('gives a new snapshot when something was changed; the old one never changes', () => {
    const { base, draft, value } = begin();
    value.nested.n = 5;
    value.nested.list.push({ own: true });
    const snapshot = end(draft);

    expect(draft.hasChanged(snapshot)).toBe(true);
    expect(base.value).toStrictEqual(new PlainState());
    expect(snapshot.value).toBeInstanceOf(PlainState);
    expect(snapshot.value).toMatchObject({ count: 0, nested: { n: 5, list: [{ own: true }] } });
    expect(() => (snapshot.value as PlainState).nested.list.push(1)).toThrow(TypeError);
  });

  it('gives a frozen snapshot of a state of values, and refuses what is none', () => {
    const { draft, value } = begin(flat);
    value.count = 2;
    const { value: stored, binary: isBinary } = end(draft);
    expect(stored).toStrictEqual(Object.assign(new FlatState(), { count: 2 }));
    expect(isBinary).toBe(false);
    expect(() => ((stored as FlatState).count = 3)).toThrow(TypeError);

    for (const [key, path] of [
      [Symbol('s'), 'flat[Symbol(s)]'],
      ['run', 'flat.run'],
    ] as const) {
      const other = begin(flat);
      (other.value as unknown as Record<symbol | string, unknown>)[key] = () => 1;
      expect(() => end(other.draft)).toThrow(expect.objectContaining({ path }));
    }
    // A key of a client's choice makes no other class of it.
    expect(() => Object.assign(begin(flat).value, JSON.parse('{"__proto__": {"name": 1}}'))).toThrow();
  });

  it('leaves what was put in to its owner', () => {
    const { draft, value } = begin();
    const own = { list: [1] };
    value.nested.list.push(own);
    const snapshot = end(draft);
    own.list.push(2);

    expect(snapshot.value).toMatchObject({ nested: { list: [{ list: [1] }] } });
  });

  it('sees writes into typed arrays, and only real ones', () => {
    const unchanged = begin(binary);
    unchanged.value.bytes[0] = 0;
    expect(end(unchanged.draft)).toBe(unchanged.base);
    const changed = begin(binary);
    changed.value.part.bytes[1] = 7;
    const snapshot = end(changed.draft);

    expect(snapshot).not.toBe(changed.base);
    expect((snapshot.value as BinaryState).part.bytes).toStrictEqual(new Uint8Array([0, 7]));
    expect((changed.base.value as BinaryState).part.bytes).toStrictEqual(new Uint8Array(2));
  });

  it('sees what has another order, in states with and without typed arrays', () => {
    for (const definition of [plain, binary]) {
      const first = begin(definition);
      const order = { map: new Map([['a', 1], ['b', 2]]), set: new Set([1, 2]), fields: { a: 1, b: 2 } }; // prettier-ignore
      Object.assign(first.value, { order });
      const base = end(first.draft);
      const draft = new StateDraft(definition, base);
      const { map, set } = (draft.value as { order: typeof order }).order;
      expect(map.delete('a') && set.delete(1)).toBe(true);
      map.set('a', 1);
      set.add(1);
      const snapshot = end(draft);

      expect(snapshot).not.toBe(base);
      const moved = (snapshot.value as { order: typeof order }).order;
      expect([[...moved.map.keys()], [...moved.set]]).toStrictEqual([['b', 'a'], [2, 1]]); // prettier-ignore
      const again = new StateDraft(definition, snapshot);
      expect((again.value as { order: typeof order }).order.map.get('a')).toBe(1);
      expect(end(again)).toBe(snapshot);
    }
  });

  it('has Sets and Maps with all methods that those of the language have', () => {
    const first = begin();
    const parts = { tags: new Set(['a', 'b']), map: new Map([['a', 1]]) };
    Object.assign(first.value, parts);
    const base = end(first.draft);
    const draft = new StateDraft(plain, base);
    const value = draft.value as typeof parts;
    // Node 22 has those of Sets, Node 26 those of Maps.
    const other = new Set(['b', 'c']);
    for (const name of ['union', 'intersection', 'difference', 'symmetricDifference', 'isSubsetOf', 'isSupersetOf', 'isDisjointFrom']) // prettier-ignore
      if (name in Set.prototype) expect(call(value.tags, name, other)).toStrictEqual(call(parts.tags, name, other)); // prettier-ignore
    const hasGetOrInsert = 'getOrInsert' in Map.prototype;
    if (hasGetOrInsert) {
      expect(call(value.map, 'getOrInsert', 'a', 9)).toBe(1);
      expect(call(value.map, 'getOrInsert', 'b', 2)).toBe(2);
      expect(call(value.map, 'getOrInsertComputed', 'c', (key: string) => `of ${key}`)).toBe('of c');
      expect(() => call((base.value as typeof parts).map, 'getOrInsert', 'd', 1)).toThrow(TypeError);
    }
    const { map } = end(draft).value as typeof parts;
    expect([...map.keys()]).toStrictEqual(hasGetOrInsert ? ['a', 'b', 'c'] : ['a']);
    expect((base.value as typeof parts).map.size).toBe(1);
  });

  it('names what cannot be stored, and can be discarded afterwards', () => {
    const hostile = [
      () => 1,
      { get bad() { throw new Error('boom'); } }, // prettier-ignore
      new Map([[1, Symbol('s')]]),
      Object.create(null),
    ];
    for (const bad of hostile) {
      const { base, draft, value } = begin();
      value.nested.list.push('fine', bad);
      expect(() => end(draft)).toThrow(StateSerializationError);
      draft.discard();
      draft.discard();
      expect(() => value.count).toThrow(TypeError);
      expect(() => value.nested).toThrow(TypeError);
      expect(base.value).toStrictEqual(new PlainState());
    }
  });

  it('a state that holds itself is refused as circular', () => {
    const { draft, value } = begin();
    value.nested.list.push(value);

    const refused = failureOf(() => end(draft)) as StateSerializationError;
    expect(refused).toBeInstanceOf(StateSerializationError);
    // Read by people: it shows the circle, and does not go around it until the stack ends.
    expect(refused.message).toMatch(
      /^[^ ]*\.nested\.list\[\d\]\.nested\.list\[\d\].*… \(\d+ more steps\) is circular/,
    );
    expect(refused.path.length).toBeLessThan(400);
    draft.discard();
  });
});

describe('StateDraft', () => {
  it('replaces all fields, also those that are gone', () => {
    const draft = new StateDraft(plain, freshSnapshot(plain));
    draft.replace({ count: 5 });

    expect(draft.finish().value).toStrictEqual(
      Object.assign(Object.create(PlainState.prototype), { count: 5 }),
    );
  });

  it('gives readers of typed arrays a copy each, and all others the snapshot itself', () => {
    const bytes = freshSnapshot(binary);
    const first = readable(bytes, 'binary') as BinaryState;
    first.bytes[0] = 9;
    expect((readable(bytes, 'binary') as BinaryState).bytes[0]).toBe(0);
    const snapshot = freshSnapshot(plain);
    expect(readable(snapshot, 'plain')).toBe(snapshot.value);
  });

  it('is dead once it is discarded, also when it holds what nobody can finish', () => {
    const draft = new StateDraft(plain, freshSnapshot(plain));
    const value = draft.value as PlainState;
    const { nested } = value;
    nested.list.push({ get bad() { throw new Error('boom'); } }); // prettier-ignore
    draft.discard();

    expect(() => value.count).toThrow(TypeError);
    expect(() => nested.n).toThrow(TypeError);
  });

  it('a class whose defaults cannot be stored is refused', () => {
    @State('hostile')
    class HostileState {
      callback = () => 1;
    }
    expect(() => freshSnapshot(definitionOf(HostileState) as StateDefinition)).toThrow('hostile.callback');
  });
});

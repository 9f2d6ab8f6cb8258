import { describe, expect, it } from '@jest/globals';
import { State } from 'nestjs-state';
import { definitionOf, type StateDefinition } from '../../../lib/internal/state-definition.js';
import { freshSnapshot, StateDraft } from '../../../lib/internal/state-draft.js';
import { detach } from '../../../lib/managers/turn-result.js';

@State('result')
class ResultState {
  count = 0;
  nested = { list: [{ n: 1 }] };
  bytes: { data: Uint8Array } | undefined = undefined;
}

const definition = definitionOf(ResultState) as StateDefinition;

const begin = () => {
  const draft = new StateDraft(definition, freshSnapshot(definition));
  const value = draft.value as ResultState;
  const settle = (result: unknown): unknown => {
    const detached = detach(result, [draft]);
    const snapshot = draft.finish();
    return detached === undefined ? result : detached.resolve([{ draft, snapshot }]);
  };
  return { draft, value, settle };
};

describe('detach', () => {
  it.each<[string, unknown]>([
    ['a primitive', 5],
    ['undefined', undefined],
    ['null', null],
    ['a function', () => 1],
    ['a Map', new Map()],
    ['a plain tree', { a: [{ b: 1 }] }],
    ['an object without a prototype', Object.create(null)],
  ])('leaves %s alone', (_, result) => {
    expect(detach(result, [])).toBeUndefined();
  });

  it('leaves a plain circle alone', () => {
    const circle: Record<string, unknown> = {};
    circle['self'] = [circle];
    expect(detach(circle, [])).toBeUndefined();
  });

  it('puts the snapshot in the place of the root, and frozen content in that of a part', () => {
    const { value, settle } = begin();
    value.count = 3;
    (value.nested.list[0] as { n: number }).n = 2;
    const result = settle({ root: value, part: value.nested, item: [value.nested.list[0]] }) as {
      root: ResultState;
      part: object;
      item: object[];
    };

    expect(result.root).toMatchObject({ count: 3, nested: { list: [{ n: 2 }] } });
    expect(result.part).toStrictEqual({ list: [{ n: 2 }] });
    expect(result.item).toStrictEqual([{ n: 2 }]);
    expect(Object.isFrozen(result.part)).toBe(true);
    expect(Object.isFrozen(result)).toBe(false);
  });

  it('an unchanged part is the very object that is stored', () => {
    const { draft, value } = begin();
    const detached = detach({ part: value.nested }, [draft]);
    value.count = 1;
    const snapshot = draft.finish();

    const result = detached?.resolve([{ draft, snapshot }]) as { part: object };

    expect(result).toStrictEqual({ part: new ResultState().nested });
    expect(result.part).toBe((snapshot.value as ResultState).nested);
  });

  it('keeps what the same container is, and does not touch the caller’s own', () => {
    const { value, settle } = begin();
    const shared = { value };
    const own = { first: shared, second: shared };
    const result = settle(own) as typeof own;

    expect(result).not.toBe(own);
    expect(result.first).toBe(result.second);
    expect(result.first.value.count).toBe(0);
  });

  it('a __proto__ key stays a key', () => {
    const { value, settle } = begin();
    const result = settle(
      Object.assign(JSON.parse('{"__proto__": {"admin": true}}') as object, { value }),
    ) as object;

    expect(Object.getPrototypeOf(result)).toBe(Object.prototype);
    expect(Object.keys(result)).toStrictEqual(['__proto__', 'value']);
  });
});

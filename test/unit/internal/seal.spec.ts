import { createDraft, enableMapSet } from 'immer';
import { describe, expect, it } from '@jest/globals';
import { seal } from '../../../lib/internal/seal.js';
import { ALLOWED, REFUSED } from '../../conformance/values.js';

enableMapSet();

describe('seal', () => {
  it.each(ALLOWED)('takes %s, as a copy and in place', (_, make) => {
    expect(seal({ value: make() }, { name: 'S', copy: true }).value).toStrictEqual({ value: make() });
    expect(seal({ value: make() }, { name: 'S' }).value).toStrictEqual({ value: make() });
    expect(seal({ value: make() }, { name: 'S', copy: true, thaw: true }).value).toStrictEqual({
      value: make(),
    });
  });

  it.each(REFUSED)('refuses %s, as a copy and in place', (_, make) => {
    for (const options of [{}, { copy: true }]) {
      expect(() => seal({ value: make() }, { name: 'S', ...options })).toThrow(/^S\.value/);
    }
  });

  it('a copy leaves the value as it is and shares nothing mutable with it', () => {
    const value = {
      list: [{ n: 1 }],
      map: new Map([['k', { n: 1 }]]),
      set: new Set([1]),
      bytes: new Uint8Array(1),
    };
    const sealed = seal(value, { name: 'S', copy: true });
    value.list.push({ n: 2 });
    (value.map.get('k') as { n: number }).n = 9;
    value.set.add(2);
    value.bytes[0] = 9;

    expect(sealed).toStrictEqual({
      value: {
        list: [{ n: 1 }],
        map: new Map([['k', { n: 1 }]]),
        set: new Set([1]),
        bytes: new Uint8Array(1),
      },
      binary: true,
      deep: false,
    });
    expect(seal({ a: 1 }, { name: 'S' }).binary).toBe(false);
  });

  it('what is identical to the base is not looked at again', () => {
    const trap = new Proxy({}, { ownKeys: () => { throw new Error('looked'); } }); // prettier-ignore
    const base = { known: trap, list: [trap], other: 1 };

    expect(
      seal({ known: trap, list: [trap, { n: 1 }], other: 2 }, { name: 'S', base, copy: true }).value,
    ).toEqual(expect.objectContaining({ other: 2 }));
    expect(() => seal({ known: trap }, { name: 'S' })).toThrow('S.known cannot be read');
  });

  it('items of a base array are known wherever they stand now', () => {
    const items = Array.from({ length: 5 }, (_, n) => seal({ n }, { name: 'S' }).value);
    const base = { items };
    const { value } = seal({ items: [...items.slice(2), { n: 9 }] }, { name: 'S', base, copy: true });

    expect(value.items[0]).toBe(items[2]);
    expect(value.items.map(({ n }) => n)).toStrictEqual([2, 3, 4, 9]);
  });

  it('takes a draft for what it looks like now, and makes no drafts of what it holds', () => {
    const base = seal(
      { a: { n: 1 }, b: { n: 1 }, list: [{ n: 1 }], map: new Map([['k', { n: 1 }]]) },
      { name: 'S' },
    ).value;
    const draft = createDraft(base);
    draft.a.n = 2;
    draft.list.push({ n: 2 });
    (draft.map.get('k') as { n: number }).n = 5;
    const { value } = seal({ draft }, { name: 'S', copy: true });
    draft.a.n = 3;

    expect(value.draft).toStrictEqual({
      a: { n: 2 },
      b: { n: 1 },
      list: [{ n: 1 }, { n: 2 }],
      map: new Map([['k', { n: 5 }]]),
    });
    expect(Object.isFrozen(value.draft.a)).toBe(true);
  });

  it('a thawed copy is mutable through and through', () => {
    const sealed = seal({ when: new Date(1), list: [{ n: 1 }], set: new Set([1]) }, { name: 'S' }).value;
    const thawed = seal(sealed, { name: 'S', copy: true, thaw: true }).value;
    thawed.when.setTime(5);
    thawed.list.push({ n: 2 });
    thawed.set.add(2);

    expect(sealed).toStrictEqual({ when: new Date(1), list: [{ n: 1 }], set: new Set([1]) });
  });

  it('a sealed date is a Date to everybody, and cannot be set', () => {
    const { when } = seal({ when: new Date(1_700_000_000_000) }, { name: 'S' }).value;

    expect(when).toBeInstanceOf(Date);
    expect(when.constructor).toBe(Date);
    expect(JSON.stringify(when)).toBe('"2023-11-14T22:13:20.000Z"');
    expect(structuredClone(when)).toStrictEqual(new Date(1_700_000_000_000));
    for (const name of Object.getOwnPropertyNames(Date.prototype).filter((each) => each.startsWith('set'))) {
      expect(() => (when as unknown as Record<string, (value: number) => void>)[name]?.(1)).toThrow(
        /immutable/,
      );
    }
    expect(seal({ when }, { name: 'S' }).value.when).toBe(when);
  });
});

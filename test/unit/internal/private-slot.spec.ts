import { inspect } from 'node:util';
import { describe, expect, it } from '@jest/globals';
import { createPrivateSlot } from '../../../lib/internal/private-slot.js';

const HOLDERS: [string, () => object][] = [
  ['an object', () => ({})],
  ['an array', () => []],
  ['an object without a prototype', () => Object.create(null) as object],
  ['an instance', () => new URL('http://127.0.0.1/')],
  ['a proxy', () => new Proxy({}, {})],
  ['a frozen object', () => Object.freeze({})],
  ['an object that cannot be extended', () => Object.preventExtensions({})],
];

describe('a private slot', () => {
  it.each(HOLDERS)('keeps one value for %s, and gives it for no other one', (_name, create) => {
    const slot = createPrivateSlot<string>();
    const holder = create();
    expect(slot.get(holder)).toBeUndefined();
    slot.put(holder, 'first');
    expect(slot.get(holder)).toBe('first');
    slot.put(holder, 'second');
    expect(slot.get(holder)).toBe('second');
    expect(slot.get(create())).toBeUndefined();
  });

  it.each(HOLDERS)('is another one than every other slot of %s', (_name, create) => {
    const [one, other] = [createPrivateSlot<string>(), createPrivateSlot<string>()];
    const holder = create();
    one.put(holder, 'of the one');
    expect(other.get(holder)).toBeUndefined();
    other.put(holder, 'of the other');
    expect([one.get(holder), other.get(holder)]).toStrictEqual(['of the one', 'of the other']);
  });

  it('keeps its value when an object is frozen later', () => {
    const slot = createPrivateSlot<string>();
    const holder = {};
    slot.put(holder, 'first');
    Object.freeze(holder);
    slot.put(holder, 'second');
    expect(slot.get(holder)).toBe('second');
  });

  it('shows nothing of it to what copies, logs or lists an object', () => {
    const slot = createPrivateSlot<string>();
    const holder = { url: '/' };
    slot.put(holder, 'secret');
    expect(Reflect.ownKeys(holder)).toStrictEqual(['url']);
    expect(inspect(holder, { showHidden: true, depth: null })).not.toContain('secret');
    for (const copy of [{ ...holder }, structuredClone(holder), Object.create(holder) as object])
      expect(slot.get(copy)).toBeUndefined();
  });
});

import { describe, expect, it } from '@jest/globals';
import { approximateSize } from '../../../lib/internal/approximate-size.js';
import { StateCodec } from '../../../lib/internal/state-codec.js';
import { defineState } from '../../../lib/internal/state-definition.js';

class Anything {
  value: unknown;
}
const definition = { cls: Anything, name: 'anything', version: 1, migrate: undefined };
defineState(definition);

function recordSize(value: unknown): number {
  const state = Object.assign(new Anything(), { value });
  return new StateCodec().encode(definition, { value: state, binary: true, deep: false }, 1).length;
}

describe('The approximate size of a value', () => {
  it.each<[string, unknown]>([
    ['a text', 'x'.repeat(1_000)],
    [
      'many objects of one shape',
      Array.from({ length: 500 }, (_, index) => ({ sku: `sku-${index}`, amount: index / 3 })),
    ],
    ['texts in a map', new Map(Array.from({ length: 300 }, (_, index) => [`key-${index}`, 'y'.repeat(40)]))],
    ['bytes', new Uint8Array(5_000)],
    ['a set', new Set(Array.from({ length: 300 }, (_, index) => `member-${index}`))],
    ['nested objects', { a: { b: { c: Array.from({ length: 100 }, () => 'text of some length') } } }],
  ])('of %s is about that of its record', (_, value) => {
    const size = approximateSize({ value });
    expect(size).toBeGreaterThan(0.5 * recordSize(value));
    expect(size).toBeLessThan(3 * recordSize(value));
  });

  it('is found by a look at a part of what is large', () => {
    let reads = 0;
    const item = {
      get text() {
        reads += 1;
        return 'text';
      },
    };
    const value = Array.from({ length: 1_000 }, () => Array.from({ length: 1_000 }, () => item));
    expect(approximateSize(value)).toBeGreaterThan(1_000_000);
    expect(reads).toBeLessThan(2_000);
  });

  it.each([undefined, null, true, 12n, Symbol.iterator, '', [], {}, new Map(), new Date(0)])(
    'is something for %p',
    (value) => expect(approximateSize(value)).toBeGreaterThan(0),
  );
});

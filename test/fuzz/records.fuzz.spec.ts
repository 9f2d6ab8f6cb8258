import { describe, expect, it } from '@jest/globals';
import { definitionOf, type StateDefinition } from '../../lib/internal/state-definition.js';
import { seal } from '../../lib/internal/seal.js';
import { StateCodec } from '../../lib/internal/state-codec.js';
import { parseWake } from '../../lib/managers/redis/wake-message.js';
import { BoxState, CartState, CounterState, NestedState } from '../conformance/states.js';
import { ByteFuzzer, SEED, tries } from './bytes.js';

const RECORDS = tries(250);
const MESSAGES = tries(100);
/** How long one of them may take, in milliseconds: a pause of the machine among it. */
const LONGEST_MS = 1_000;

const codec = new StateCodec();
const CLASSES = [CounterState, CartState, BoxState, NestedState].map(
  (cls) => definitionOf(cls) as StateDefinition,
);

const box = (value: unknown): BoxState => Object.assign(new BoxState(), { value });

function recordsOf(): Buffer[] {
  const values: unknown[] = [
    null,
    -0,
    1n << 80n,
    'text',
    '\ud800',
    new Map<unknown, unknown>([
      [1, new Date(0)],
      ['a', new Set([1, 'b'])],
    ]),
    new Float64Array([1, 2]),
    [[1, [2, [3]]], { constructor: 1, toString: 2 }],
    { constructor: { prototype: { polluted: 2 } }, proto: { polluted: 1 } },
  ];
  const states = [
    new CounterState(),
    new CartState(),
    new NestedState(),
    ...values.map((value) => box(value)),
  ];
  return states.map((state) => {
    const definition = definitionOf(state.constructor) as StateDefinition;
    return Buffer.from(codec.encode(definition, seal(state, { name: definition.name, copy: true }), 7));
  });
}

function isOf(definition: StateDefinition, record: Buffer): boolean {
  try {
    codec.decode(definition, record);
    return true;
  } catch {
    return false;
  }
}

/** Everything in `value` that is a plain object has the prototype of one, or none. */
function expectPlain(value: unknown, depth = 0): void {
  if (typeof value !== 'object' || value === null || depth > 20) return;
  if (!Array.isArray(value) && !(value instanceof Map) && !(value instanceof Set)) {
    const prototype = Object.getPrototypeOf(value) as object | null;
    if (prototype !== null && !Object.hasOwn(prototype, 'constructor'))
      throw new Error('A forged prototype.');
  }
  for (const field of Object.values(value)) expectPlain(field, depth + 1);
}

function polluted(): unknown[] {
  const clean = {} as Record<string, unknown>;
  return [
    clean['polluted'],
    ([] as unknown as Record<string, unknown>)['polluted'],
    Object.keys(Object.prototype),
  ];
}

describe(`Records that somebody has tampered with (FUZZ_SEED=${SEED})`, () => {
  it('are read as a state of their class, or refused, in no time, and change nothing else', () => {
    const fuzzers = CLASSES.map(
      (definition, index) =>
        new ByteFuzzer(
          SEED + index,
          recordsOf().filter((record) => isOf(definition, record)),
        ),
    );
    const before = polluted();
    let read = 0;
    let refused = 0;
    for (let number = 0; number < RECORDS; number += 1) {
      const at = number % CLASSES.length;
      const record = (fuzzers[at] as ByteFuzzer).next();
      // Now and then as another class than the one it was written as.
      const definition = CLASSES[number % 11 === 0 ? (at + 1) % CLASSES.length : at] as StateDefinition;
      const startMs = performance.now();
      try {
        const { value } = codec.decode(definition, record);
        if (!(value instanceof definition.cls)) throw new TypeError(`No ${definition.name}.`);
        if (number % 16 === 0) expectPlain(value);
        read += 1;
      } catch (error) {
        // In the words of anybody who reads what is no record: but nothing of the engine's own limits.
        if (error instanceof TypeError && error.message.startsWith('No ')) throw error;
        if ((error as Error).message === 'A forged prototype.') throw error;
        refused += 1;
      }
      const tookMs = performance.now() - startMs;
      if (tookMs > LONGEST_MS) throw new Error(`${tookMs} ms for ${record.toString('hex')}`);
    }
    expect(polluted()).toStrictEqual(before);
    expect(read).toBeGreaterThan(RECORDS / 20);
    expect(refused).toBeGreaterThan(RECORDS / 10);
  });

  it('say nothing to watchers that is not in them', () => {
    const steps = [
      codec.encodeSteps([{ isDeleted: false, states: [{ name: 'counter', version: 1, commits: 2, change: { patches: [{ op: 'set', path: ['count'], value: 3 }] } }] }]), // prettier-ignore
      codec.encodeSteps([{ isDeleted: true, states: [{ name: 'cart', version: 1, commits: 1, change: { record: recordsOf()[1] as Buffer } }] }]), // prettier-ignore
    ];
    const fuzzer = new ByteFuzzer(SEED, [
      ...steps,
      Buffer.from('handed 0a1b owner:1 1 7 3\ncounterabc'),
      Buffer.from('changed 0a1b a b 0 7 3\ncounterabc'),
    ]);
    const before = polluted();
    for (let number = 0; number < MESSAGES; number += 1) {
      const bytes = fuzzer.next();
      for (const read of [() => codec.decodeSteps(bytes), () => parseWake(bytes)]) {
        const startMs = performance.now();
        try {
          read();
        } catch (error) {
          if (!(error instanceof Error)) throw error;
        }
        const tookMs = performance.now() - startMs;
        if (tookMs > LONGEST_MS) throw new Error(`${tookMs} ms for ${bytes.toString('hex')}`);
      }
    }
    expect(polluted()).toStrictEqual(before);
  });
});

import { randomBytes } from 'node:crypto';
import { describe, expect, it } from '@jest/globals';
import * as fc from 'fast-check';
import { State } from 'nestjs-state';
import { seal } from '../../../lib/internal/seal.js';
import { StateCodec } from '../../../lib/internal/state-codec.js';
import { definitionOf, type StateDefinition } from '../../../lib/internal/state-definition.js';
import { freshSnapshot } from '../../../lib/internal/state-draft.js';
import { BoxState, CounterState, NestedState } from '../../conformance/states.js';
import { ALLOWED } from '../../conformance/values.js';

const define = (cls: unknown): StateDefinition => definitionOf(cls) as StateDefinition;
const BOX = define(BoxState);

/** What another process reads of what this one has written. */
function throughTheStore(value: unknown): unknown {
  const snapshot = seal<object>(Object.assign(new BoxState(), { value }), { name: 'box', copy: true });
  const record = new StateCodec().encode(BOX, snapshot);
  return (new StateCodec().decode(BOX, new Uint8Array(Buffer.from(record))).value as BoxState).value;
}

function recordOf(value: unknown): unknown {
  const state = Object.assign(new BoxState(), { value });
  return new StateCodec().encode(BOX, seal<object>(state, { name: 'box', copy: true }));
}

describe('the codec of stored states', () => {
  it.each(ALLOWED)('brings %s back as it was', (_, make) => {
    expect(throughTheStore(make())).toStrictEqual(make());
  });

  const odd: [string, () => unknown][] = [
    ['a key that is half a surrogate pair', () => ({ 'a\ud800': 1, b: -0, '\udc00': { c: '\ud801' } })],
    ['a Map with the key that escapes', () => new Map<unknown, unknown>([['\u0000nestjs-state', ['-0']], ['b', -0]])], // prettier-ignore
    ['a Map with only the key that escapes', () => new Map([['\u0000nestjs-state', ['state', []]]])],
    ['a Map keyed by a nested state and half a pair', () => new Map<unknown, unknown>([[new CounterState(), 1], ['\ud800', 2]])], // prettier-ignore
    ['a long text with half a surrogate pair', () => `${'x'.repeat(300_000)}\ud800`],
    ['a bigint of 500 bits', () => -(2n ** 500n) + 1n],
    ['the ends of the time that a Date can tell', () => [new Date(8.64e15), new Date(-8.64e15), new Date(-1)]], // prettier-ignore
    ['5,000 fields', () => Object.fromEntries(Array.from({ length: 5_000 }, (_, i) => [`field${i}`, i]))],
    ['990 levels', () => Array.from({ length: 990 }).reduce<unknown>((value) => ({ value }), 'bottom')],
  ];
  it.each(odd)('brings %s back as it was', (_, make) => {
    expect(throughTheStore(make())).toStrictEqual(make());
  });

  it('freezes nothing of the application: neither what migrate returns nor what is a default', () => {
    const [roles, limits] = [['user'], { perDay: 5 }];
    @State('shared')
    class First {}
    @State('shared')
    class Second {
      roles = roles;
      limits = {};
    }
    const defineAs = (cls: new () => object, version: number): StateDefinition => ({
      cls,
      name: 'shared',
      version,
      migrate: (old) => ({ ...old, limits }),
    });
    const record = new StateCodec().encode(defineAs(First, 1), seal<object>(new First(), { name: 'shared' }));
    for (const version of [1, 2]) {
      const { value } = new StateCodec().decode(defineAs(Second, version), record);
      expect(value).toStrictEqual(Object.assign(new Second(), version === 2 && { limits }));
      expect(Object.isFrozen((value as Second).roles)).toBe(true);
      expect([Object.isFrozen(roles), Object.isFrozen(limits)]).toStrictEqual([false, false]);
    }
    const fresh = freshSnapshot(defineAs(Second, 1)).value as Second;
    expect([Object.isFrozen(fresh.roles), Object.isFrozen(roles)]).toStrictEqual([true, false]);
  });

  it('brings back whatever a state may hold', () => {
    const value = fc.letrec((tie) => ({
      leaf: fc.oneof(
        fc.string({ unit: 'binary' }),
        fc.string({ unit: fc.constantFrom('a', '\ud800', '\udfff', '\u0000') }),
        fc.double(),
        fc.integer(),
        fc.bigInt(),
        fc.boolean(),
        fc.constantFrom(null, undefined, -0),
        fc.date({ noInvalidDate: true }),
        fc.uint8Array(),
        fc.float64Array(),
      ),
      node: fc.oneof(
        { maxDepth: 4 },
        tie('leaf'),
        fc.array(tie('node'), { maxLength: 4 }),
        fc.dictionary(
          fc.string({ unit: 'binary' }).filter((key) => key !== '__proto__'),
          tie('node'),
          {
            maxKeys: 4,
            noNullPrototype: true,
          },
        ),
        fc.array(fc.tuple(tie('node'), tie('node')), { maxLength: 3 }).map((entries) => new Map(entries)),
        fc.array(tie('node'), { maxLength: 3 }).map((items) => new Set(items)),
        fc.nat().map((count) => Object.assign(new CounterState(), { count })),
      ),
    })).node;
    fc.assert(
      fc.property(value, (item) => {
        expect(throughTheStore(item)).toStrictEqual(throughTheStore(throughTheStore(item)));
        expect(throughTheStore(item)).toStrictEqual(seal(item, { name: 'x', copy: true }).value);
      }),
      { numRuns: 2_000 },
    );
  });

  it('writes JSON where it is small and JSON has a form for all of it', () => {
    const texts = [
      1,
      'é☃\u2028',
      true,
      null,
      [1, [2]],
      { a: { b: 1e21 } },
      { toJSON: 1 },
      Array(20).fill('x'.repeat(1_000)),
    ];
    for (const value of texts) {
      expect(recordOf(value)).toBe(
        `[1,"box",1,${JSON.stringify(Object.assign(new BoxState(), { value }))},[],1]`,
      );
      expect(throughTheStore(value)).toStrictEqual(value);
    }
    const others = [undefined, NaN, -Infinity, -0, 1n, '\ud800', { '\ud800': 1 }, [-0], new Date(0), new Map(), new Set(), new Uint8Array(1), new CounterState(), Array(40).fill(1)]; // prettier-ignore
    for (const value of others) {
      expect(recordOf(value)).toBeInstanceOf(Buffer);
      expect(throughTheStore(value)).toStrictEqual(value);
    }
  });

  it('brings nested states back as instances of their classes', () => {
    const state = new NestedState();
    state.counters.set('a', Object.assign(new CounterState(), { count: 3 }));
    const codec = new StateCodec();
    const definition = define(NestedState);
    const snapshot = seal<object>(state, { name: 'nested', copy: true });
    const read = codec.decode(definition, codec.encode(definition, snapshot)).value as NestedState;

    expect(read).toStrictEqual(snapshot.value);
    expect(read.counters.get('a')).toBeInstanceOf(CounterState);
  });

  it('leaves a field deleted that was deleted, also in a nested state', () => {
    const box = new BoxState() as Partial<BoxState>;
    delete box.touched;
    const counter = new CounterState() as Partial<CounterState>;
    delete counter.count;
    box.value = counter;
    const codec = new StateCodec();
    const read = codec.decode(BOX, codec.encode(BOX, seal<object>(box, { name: 'box', copy: true }))).value;

    expect(Object.keys(read)).toStrictEqual(['value', 'list']);
    expect(Object.keys((read as BoxState).value as object)).toStrictEqual([]);
  });

  it('refuses what is nested too deeply to be written', () => {
    let value: unknown = 'bottom';
    for (let level = 0; level < 900; level += 1) value = Object.assign(new BoxState(), { value });
    const snapshot = seal<object>(value as object, { name: 'box', copy: true });
    expect(snapshot.deep).toBe(true);
    // How deep is too deep depends on what is on the stack already.
    const below = (calls: number): void =>
      calls === 0 ? new StateCodec().check(BOX, snapshot) : below(calls - 1);
    let failure: unknown;
    for (let calls = 0; failure === undefined; calls += 500) {
      try {
        below(calls);
      } catch (error) {
        failure = error;
      }
    }
    expect(failure).toMatchObject({ name: 'StateSerializationError', path: 'box' });
  });

  it('takes a nested state of an older version through its migrate', () => {
    @State({ name: 'part' })
    class FirstPart {
      seconds = 90;
    }
    const record = new StateCodec().encode(
      BOX,
      seal<object>(Object.assign(new BoxState(), { value: new FirstPart() }), { name: 'box', copy: true }),
    );
    @State({ name: 'part', version: 2, migrate: (old) => ({ minutes: (old['seconds'] as number) / 60 }) })
    class SecondPart {
      minutes = 0;
    }
    const { value } = new StateCodec().decode(BOX, record).value as BoxState;

    expect(value).toBeInstanceOf(SecondPart);
    expect(value).toStrictEqual(Object.assign(new SecondPart(), { minutes: 1.5 }));
  });

  it('refuses what is no record of the class', () => {
    const codec = new StateCodec();
    const counter = codec.encode(define(CounterState), seal<object>(new CounterState(), { name: 'counter' }));
    expect(() => codec.decode(BOX, counter)).toThrow('another class');
    const text = Buffer.from(counter);
    const packed = Buffer.from(
      codec.encode(BOX, seal<object>(Object.assign(new BoxState(), { value: 5n }), { name: 'box' })),
    );
    const damaged = [
      Buffer.alloc(0),
      Buffer.from('{"count":1}'),
      Buffer.from([0xc0]),
      Buffer.from('[]'),
      Buffer.from('[1,"counter",1,{"count":1,"__proto__":{"polluted":1}},[],1]'),
      Buffer.from('[1,"counter",1,{"count":{"__proto__":{"polluted":1}}},[],1]'),
      Buffer.from('[1,"counter",1,[["count",1]],"none",1]'),
      Buffer.from('[1,"counter",1,null,[],1]'),
      text.subarray(0, 8),
      Buffer.concat([Buffer.from('[2'), text.subarray(2)]),
    ];
    for (const bytes of damaged) expect(() => codec.decode(define(CounterState), bytes)).toThrow();
    for (const bytes of [packed.subarray(0, 8), Buffer.concat([Buffer.from([0x94, 2]), packed.subarray(2)])])
      expect(() => codec.decode(BOX, bytes)).toThrow();
  });

  it('brings back the steps that watchers are told, whatever keys they lead over', () => {
    const codec = new StateCodec();
    const path = ['a\ud800', 0, '\udc00', '\u0000nestjs-state'];
    const change = { patches: [{ op: 'set' as const, path, value: { '\ud801': -0 } }] };
    const steps = [{ isDeleted: false, states: [{ name: 'box', version: 1, commits: 2, change }] }];

    expect(codec.decodeSteps(codec.encodeSteps(steps))).toStrictEqual(steps);
  });

  it('throws, or reads a state, and does nothing else, whatever the bytes are', () => {
    const codec = new StateCodec();
    const nested = seal<object>(
      Object.assign(new BoxState(), { value: new Map<unknown, unknown>([['a', [new CounterState(), -0, '\ud800', new Date(5), 5n]]]) }), // prettier-ignore
      { name: 'box', copy: true },
    );
    const good = codec.encode(BOX, nested);
    expect(good).toBeInstanceOf(Buffer);
    for (let round = 0; round < 5_000; round += 1) {
      const bytes = Buffer.from(good);
      for (let flips = 0; flips <= round % 4; flips += 1) {
        const [position, value] = randomBytes(2);
        bytes[(position as number) % bytes.length] = value as number;
      }
      try {
        const read = codec.decode(BOX, bytes).value;
        expect(read).toBeInstanceOf(BoxState);
      } catch (error) {
        expect(error).toBeInstanceOf(Error);
      }
    }
    expect(({} as Record<string, unknown>)['value']).toBeUndefined();
  });
});

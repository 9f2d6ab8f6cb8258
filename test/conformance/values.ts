import { Socket } from 'node:net';
import { CartState, CounterState } from './states.js';

/** What every manager stores and gives back equal. */
export const ALLOWED: [string, () => unknown][] = [
  ['undefined', () => undefined],
  ['null', () => null],
  ['a boolean', () => true],
  ['a text', () => 'text with \u0000 and \u{1F600} and \ud800'],
  ['an empty text', () => ''],
  ['NaN', () => Number.NaN],
  ['Infinity', () => Number.POSITIVE_INFINITY],
  ['-Infinity', () => Number.NEGATIVE_INFINITY],
  ['-0', () => -0],
  ['the largest number', () => Number.MAX_VALUE],
  ['a bigint', () => 12_345_678_901_234_567_890n],
  ['a negative bigint', () => -1n],
  ['a plain object', () => ({ a: 1, 'b-c': { d: [1, { e: 2 }] } })],
  ['an empty object', () => ({})],
  ['an object with an undefined field', () => ({ a: undefined, b: 1 })],
  ['an object with the keys of its prototype', () => ({ constructor: 1, toString: 2, hasOwnProperty: 3 })],
  [
    'an object with the keys that say how to write it',
    () => ({ constructor: 1, toJSON: 2, list: Array.from({ length: 40 }, () => 0) }),
  ],
  ['an object with numbers for keys', () => ({ 1: 'a', 0: 'b', '-1': 'c' })],
  [
    'an object that looks like an envelope',
    () => ({ $type: 'Date', $value: 0, type: 'Map', __type: 'bigint' }),
  ],
  ['an array', () => [1, 'a', null, undefined, -0, Number.NaN, [1n]]],
  ['a Date', () => new Date(1_700_000_000_123)],
  ['a Map', () => new Map<unknown, unknown>([['a', 1], [2, { b: new Date(5) }], [undefined, Number.NaN]])], // prettier-ignore
  ['a Map with objects for keys', () => new Map([[{ a: 1 }, 'x']])],
  ['an empty Map', () => new Map()],
  ['a Set', () => new Set<unknown>(['a', 1, 2n, undefined, { b: [1] }])],
  ['nested containers', () => new Map([['m', new Map([['s', new Set([[new Date(1), 1n]])]])]])],
  ['a Uint8Array', () => new Uint8Array([0, 1, 255])],
  ['an empty Uint8Array', () => new Uint8Array()],
  ['a Uint8ClampedArray', () => new Uint8ClampedArray([1, 2])],
  ['an Int16Array', () => new Int16Array([-1, 300])],
  ['an Int32Array', () => new Int32Array([-1, 2 ** 31 - 1])],
  ['a Float32Array', () => new Float32Array([0.5, Number.NaN])],
  ['a Float64Array', () => new Float64Array([0.1, -0, Number.NaN, Number.NEGATIVE_INFINITY])],
  ['a BigInt64Array', () => new BigInt64Array([-1n, 2n ** 62n])],
  ['a part of a larger buffer', () => new Uint16Array(new Uint16Array([1, 2, 3, 4]).buffer, 2, 2)],
  [
    'typed arrays in containers',
    () => ({ list: [new Uint8Array([1])], map: new Map([['k', new Int8Array([-1])]]) }),
  ],
  ['a nested state', () => Object.assign(new CounterState(), { count: 5 })],
  [
    'a nested state with a field that is named constructor',
    () => Object.assign(new CounterState(), { constructor: 'of prose' }),
  ],
  [
    'nested states in containers',
    () => ({ list: [new CartState()], map: new Map([['c', new CounterState()]]) }),
  ],
  ['500 levels', () => deep(500)],
];

class Foreign {
  field = 1;
}

class UndecoratedState extends CounterState {}

class ForeignDate extends Date {}

class ForeignMap extends Map {}

class ForeignArray extends Array {}

/** What no manager stores, and where in the value it stands. */
export const REFUSED: [string, () => unknown, string][] = [
  ['a function', () => () => 1, ''],
  ['a class', () => Foreign, ''],
  ['a symbol', () => Symbol('s'), ''],
  ['a function deep inside', () => ({ a: [0, { b: () => 1 }] }), '.a[1].b'],
  ['a function below a key that is no identifier', () => ({ 'a-b': () => 1 }), '["a-b"]'],
  ['a function in a Map', () => new Map([['k', { f: () => 1 }]]), '["k"].f'],
  ['a function in a Set', () => new Set([1, () => 1]), '[1]'],
  ['a symbol for a key', () => ({ a: { [Symbol('k')]: 1 } }), '.a[Symbol(k)]'],
  ['an instance of a foreign class', () => ({ a: new Foreign() }), '.a'],
  ['an undecorated subclass of a state class', () => new UndecoratedState(), ''],
  ['a subclass of Date', () => new ForeignDate(), ''],
  ['a subclass of Map', () => new ForeignMap(), ''],
  ['a subclass of Array', () => ForeignArray.from([1]), ''],
  ['a socket', () => ({ client: new Socket() }), '.client'],
  ['an Error', () => new Error('x'), ''],
  ['a RegExp', () => /x/, ''],
  ['a Promise', () => Promise.resolve(1), ''],
  ['a WeakMap', () => new WeakMap(), ''],
  ['a URL', () => new URL('http://localhost'), ''],
  ['a Buffer', () => ({ b: Buffer.from('x') }), '.b'],
  ['an ArrayBuffer', () => new ArrayBuffer(2), ''],
  ['a DataView', () => new DataView(new ArrayBuffer(2)), ''],
  ['a boxed text', () => Object('x') as unknown, ''],
  ['a generator', () => [1].values(), ''],
  ['an object without a prototype', () => ({ a: Object.create(null) as unknown }), '.a'],
  ['a __proto__ key', () => ({ a: JSON.parse('{"__proto__": {"admin": true}}') as unknown }), '.a.__proto__'],
  ['a getter', () => ({ a: { get b() { return 1; } } }), '.a.b'], // prettier-ignore
  ['a getter that throws', () => ({ a: [{ get b() { throw new Error('boom'); } }] }), '.a[0].b'], // prettier-ignore
  ['a setter', () => ({ set b(_value: number) { throw new Error('boom'); } }), '.b'], // prettier-ignore
  [
    'a hole in an array',
    () =>
      Array.from({ length: 3 })
        .fill(1)
        .concat(Object.assign([], { length: 2 })),
    '[3]',
  ],
  ['a circular object', () => circle({ a: {} }), '.a.self.a.self'],
  ['a circular array', () => circularArray(), '[0][0][0]'],
  ['a circular Map', () => circularMap(), '["self"]["self"]'],
];

function deep(levels: number): unknown {
  let value: unknown = 'bottom';
  for (let level = 0; level < levels; level += 1) value = { next: value };
  return value;
}

function circle(value: { a: Record<string, unknown> }): unknown {
  value.a['self'] = value;
  return value;
}

function circularArray(): unknown[] {
  const items: unknown[] = [];
  items.push(items);
  return items;
}

function circularMap(): unknown {
  const map = new Map<string, unknown>();
  return map.set('self', map);
}

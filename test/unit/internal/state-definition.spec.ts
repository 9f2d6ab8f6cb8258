import { describe, expect, it, jest } from '@jest/globals';
import {
  defineState,
  definitionOf,
  upgrade,
  type StateDefinition,
} from '../../../lib/internal/state-definition.js';

class Profile {
  first = '';
  last = '';
  tags: string[] = [];
}

describe('definitionOf', () => {
  it('knows a class that was defined, and nothing else, not even its subclass', () => {
    class Defined {}
    class Sub extends Defined {}
    const definition: StateDefinition = { cls: Defined, name: 'defined', version: 1, migrate: undefined };
    defineState(definition);

    expect(definitionOf(Defined)).toBe(definition);
    for (const other of [Sub, Profile, {}, null, undefined, 5, 'Defined', () => 1]) {
      expect(definitionOf(other)).toBeUndefined();
    }
    expect(Object.keys(Defined)).toStrictEqual([]);
  });
});

const define = (version: number, migrate?: StateDefinition['migrate']): StateDefinition => ({
  cls: Profile,
  name: 'profile',
  version,
  migrate,
});

describe('upgrade', () => {
  it('gives a new field the default of the class', () => {
    const profile = upgrade(define(1), { first: 'Ada' }, 1);

    expect(profile).toBeInstanceOf(Profile);
    expect(profile).toStrictEqual(Object.assign(new Profile(), { first: 'Ada' }));
  });

  it('hands the fields and the version of an older record to migrate', () => {
    const migrate = jest.fn((old: Record<string, unknown>, version: number) => ({
      first: `${String(old['name'])}@${version}`,
    }));

    expect(upgrade(define(3, migrate), { name: 'Ada' }, 2)).toMatchObject({ first: 'Ada@2', last: '' });
    expect(upgrade(define(3, migrate), { first: 'Ada' }, 3)).toMatchObject({ first: 'Ada' });
    expect(migrate).toHaveBeenCalledTimes(1);
  });

  it('takes an older record as it is when there is no migrate', () => {
    expect(upgrade(define(5), { first: 'Ada' }, 1)).toMatchObject({ first: 'Ada', tags: [] });
  });

  it('refuses a newer record, and a migrate that throws or returns no object', () => {
    expect(() => upgrade(define(1), {}, 2)).toThrow('version 2');
    expect(() =>
      upgrade(
        define(2, () => null as never),
        {},
        1,
      ),
    ).toThrow('no object');
    expect(() =>
      upgrade(
        define(2, () => 5 as never),
        {},
        1,
      ),
    ).toThrow('no object');
    expect(() =>
      upgrade(
        define(2, async () => ({ first: 'Ada' })),
        {},
        1,
      ),
    ).toThrow('must not be async');
    expect(() => upgrade(define(2, () => { throw new Error('no way'); }), {}, 1)).toThrow('no way'); // prettier-ignore
  });
});

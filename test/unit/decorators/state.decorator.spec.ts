import { describe, expect, it } from '@jest/globals';
import { InvalidStateOptionsError, State, StateToken, type StateDeclaration } from 'nestjs-state';
import { definitionOf } from '../../../lib/internal/state-definition.js';

const migrate = (old: object) => old;

describe('@State()', () => {
  it('takes the name of the class, version 1 and no migrate unless told otherwise', () => {
    @State()
    class PlainState {}

    expect(definitionOf(PlainState)).toStrictEqual({
      cls: PlainState,
      name: 'PlainState',
      version: 1,
      migrate: undefined,
    });
  });

  it('takes a name, or a whole declaration', () => {
    @State('short')
    class NamedState {}
    @State({ name: 'shop:cart.v-1', version: 7, migrate })
    class DeclaredState {}

    expect(definitionOf(NamedState)?.name).toBe('short');
    expect(definitionOf(DeclaredState)).toMatchObject({ name: 'shop:cart.v-1', version: 7, migrate });
  });

  it('a subclass is a state class only with a decorator of its own', () => {
    @State()
    class BaseState {}
    class UndecoratedState extends BaseState {}
    @State()
    class DecoratedState extends BaseState {}

    expect(() => new StateToken('a', UndecoratedState)).toThrow('UndecoratedState');
    expect(new StateToken('a', DecoratedState).storeKey).toBe('DecoratedState/a');
  });

  it.each<[string, unknown]>([
    ['an empty name', ''],
    ['a name with a slash', 'a/b'],
    ['a name with a space', 'a b'],
    ['too long a name', 'x'.repeat(129)],
    ['a name that is no text', { name: 5 }],
    ['version 0', { version: 0 }],
    ['a negative version', { version: -1 }],
    ['half a version', { version: 1.5 }],
    ['a version that is a text', { version: '2' }],
    ['a migrate that is no function', { migrate: {} }],
  ])('refuses %s', (_, declaration) => {
    expect(() => State(declaration as StateDeclaration)(class Refused {})).toThrow(InvalidStateOptionsError);
  });

  it('reports all that is wrong together, with the class', () => {
    let failure: unknown;
    try {
      State({ name: '/', version: 0, migrate: 5 as never })(class BadState {});
    } catch (error) {
      failure = error;
    }
    const { problems } = failure as InvalidStateOptionsError;

    expect(problems).toHaveLength(3);
    for (const problem of problems) expect(problem).toContain('BadState');
  });

  it('refuses a class without a name that is given none', () => {
    const anonymous = (() => class {})();
    Object.defineProperty(anonymous, 'name', { value: '' });

    expect(() => State()(anonymous)).toThrow(InvalidStateOptionsError);
  });
});

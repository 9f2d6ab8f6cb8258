import { describe, expect, it } from '@jest/globals';
import { InvalidStateTokenError, State, StateToken } from 'nestjs-state';

@State('cart')
class CartState {}

@State()
class CounterState {}

class SubState extends CartState {}

describe('StateToken', () => {
  it('locks by the ident alone, and stores by ident and class', () => {
    const cart = new StateToken('alice', CartState);
    const counter = cart.withClass(CounterState);

    expect(cart.lockKey).toBe('alice');
    expect(counter.lockKey).toBe('alice');
    expect(cart.storeKey).toBe('cart/alice');
    expect(counter.storeKey).toBe('CounterState/alice');
    expect([counter.ident, counter.cls]).toStrictEqual(['alice', CounterState]);
  });

  it('no two tokens share a store key, whatever is in the ident', () => {
    const idents = ['a', 'a/b', 'cart/a', '/a', 'CounterState/a', 'a:b'];
    const keys = idents.flatMap((ident) => [
      new StateToken(ident, CartState).storeKey,
      new StateToken(ident, CounterState).storeKey,
    ]);

    expect(new Set(keys).size).toBe(keys.length);
  });

  it('refuses what is no ident', () => {
    for (const ident of ['', 'a\n', 'x'.repeat(257), 5, null, ['a']]) {
      expect(() => new StateToken(ident as string, CartState)).toThrow(InvalidStateTokenError);
    }
  });

  it('refuses what is no state class, and names it', () => {
    for (const cls of [SubState, Object, undefined, {}, () => 1]) {
      let failure: unknown;
      try {
        new StateToken('a', cls as never).toString();
      } catch (error) {
        failure = error;
      }
      expect(failure).toMatchObject({ reason: 'not-a-state-class', name: 'InvalidStateTokenError' });
    }
    expect(() => new StateToken('a', SubState)).toThrow('SubState is not a state class');
  });
});

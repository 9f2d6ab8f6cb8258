import { describe, expect, it } from '@jest/globals';
import { StateToken, type StateManager } from 'nestjs-state';
import { CartState, CounterState } from '../../conformance/states.js';
import { openMemoryManager } from '../../support/manager-memory.js';

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
const isTrue = <T extends true>(_proof?: T): void => undefined;

const counter = new StateToken('somebody', CounterState);
const cart = new StateToken('somebody else', CartState);

/** What the compiler makes of calls. It is not run: `npm run typecheck` is the test. */
export const calls = async (manager: StateManager): Promise<void> => {
  const text = await manager.modifyStates([counter, cart], async (one, other) => {
    isTrue<Equal<typeof one, CounterState>>();
    isTrue<Equal<typeof other, CartState>>();
    return 'text';
  });
  isTrue<Equal<typeof text, string>>();
  const fewer = await manager.modifyStates([counter, cart, counter], (_, other) => other.total);
  isTrue<Equal<typeof fewer, number>>();
  await manager.modifyStates([counter, cart] as const, (one, other) => void (one.count = other.total));
  const list: StateToken<CounterState>[] = [counter, counter];
  const sum = await manager.modifyStates(list, (...all) =>
    all.reduce((total, { count }) => total + count, 0),
  );
  isTrue<Equal<typeof sum, number>>();
  await manager.modifyStates([cart, ...list], (first, ...others) => {
    isTrue<Equal<typeof first, CartState>>();
    isTrue<Equal<typeof others, CounterState[]>>();
  });
  const all = await manager.modifyStates([counter, cart], (...states) => states);
  isTrue<Equal<typeof all, [CounterState, CartState]>>();
  await manager.modifyStates([], () => 1, { acquireTimeout: '1s' });
  // @ts-expect-error the second one is a cart
  await manager.modifyStates([counter, cart], (_, other) => other.count);
  // @ts-expect-error there is no third one
  await manager.modifyStates([counter, cart], (_one, _other, third) => third);
  // @ts-expect-error a class is no token
  await manager.modifyStates([CounterState], () => 1);
};

describe('the types of modifyStates', () => {
  it('follow the tokens, one by one', async () => {
    const manager = await openMemoryManager();
    const states = await manager.modifyStates([counter, cart], (one, other) => [one, other]);

    expect(states[0]).toBeInstanceOf(CounterState);
    expect(states[1]).toBeInstanceOf(CartState);
    await manager.onModuleDestroy();
  });
});

import { getEventListeners } from 'node:events';
import { describe, expect, it } from '@jest/globals';
import { State, StateToken, type StateEvent, type StateManager } from 'nestjs-state';
import { failureOf, newIdent, untilWaiting, type ConformanceHarness } from './harness.js';
import { BoxState, CartState, CounterState } from './states.js';

const expectNothing = async (manager: StateManager): Promise<void> => {
  const { openTurns, waiting, states = 0 } = manager.stats();
  expect({ openTurns, waiting, states, idents: await manager.count() }).toStrictEqual({
    openTurns: 0,
    waiting: 0,
    states: 0,
    idents: 0,
  });
};

export function leftoversSuite(harness: ConformanceHarness): void {
  describe('nothing is left behind', () => {
    it('S6: after expiry everything is back to zero, with no traffic needed', async () => {
      const manager = await harness.open({ expiration: 500 });
      await Promise.all(
        Array.from({ length: 30 }, () =>
          manager.modifyState(new StateToken(newIdent(), CounterState), async (counter, turn) => {
            counter.increment();
            (await turn.state(CartState)).total = 1;
          }),
        ),
      );
      expect(await manager.count()).toBe(30);
      await harness.advance(1_000);

      await expectNothing(manager);
    });

    it('S6: nothing hangs on the signal of a caller once its turn is over, also when somebody looks at it then', async () => {
      const manager = await harness.open();
      const { signal } = new AbortController();
      for (let turns = 0; turns < 20; turns += 1) {
        const turn = await manager.openTurn(newIdent(), { signal });
        if (turns % 2 === 0) expect(turn.signal.aborted).toBe(false);
        await (turns % 4 < 2 ? turn.commit() : turn.rollback());
        expect(turn.signal.aborted).toBe(false);
        expect(getEventListeners(signal, 'abort')).toEqual([]);
      }
    });

    it('S6: after a delete everything is back to zero', async () => {
      const manager = await harness.open();
      const token = new StateToken(newIdent(), CounterState);
      await manager.modifyState(token, async (counter, turn) => {
        counter.increment();
        (await turn.state(CartState)).total = 1;
      });
      await manager.deleteState(token.ident);

      await expectNothing(manager);
    });

    type Ending = (manager: StateManager, token: StateToken<BoxState>) => Promise<unknown>;
    const endings: [string, Ending][] = [
      [
        'a thrown error',
        (manager, token) => failureOf(manager.modifyState(token, () => Promise.reject(new Error()))),
      ],
      [
        'a value that cannot be stored',
        (manager, token) => failureOf(manager.modifyState(token, (box) => void (box.value = () => 1))),
      ],
      ['a setState that is refused', (manager, token) => failureOf(manager.setState(token, 5 as never))],
      [
        'an abort while the code runs',
        (manager, token) => {
          const controller = new AbortController();
          const { signal } = controller;
          return failureOf(
            manager.modifyState(
              token,
              (box) => {
                box.value = 1;
                controller.abort();
              },
              { signal },
            ),
          );
        },
      ],
      [
        'an abort before the call',
        (manager, token) => failureOf(manager.modifyState(token, () => 1, { signal: AbortSignal.abort() })),
      ],
      ['a rollback', async (manager, token) => (await manager.openTurn(token.ident)).rollback()],
      ['a disposal', async (manager, token) => (await manager.openTurn(token.ident))[Symbol.asyncDispose]()],
      ['an unchanged commit', async (manager, token) => (await manager.openTurn(token.ident)).commit()],
      ['a delete of nothing', (manager, token) => manager.deleteState(token.ident)],
      ['a read', (manager, token) => manager.getState(token)],
    ];
    it.each(endings)('S6: the lock is free in the same tick after %s', async (_, end) => {
      const manager = await harness.open();
      const token = new StateToken(newIdent(), BoxState);
      const statsAtTheEnd = await end(manager, token).then(() => manager.stats());

      expect(statsAtTheEnd).toMatchObject({ openTurns: 0, waiting: 0 });
      await expectNothing(manager);
    });

    it('S6: waiters that gave up, by timeout and by abort, leave nothing', async () => {
      const manager = await harness.open();
      const token = new StateToken(newIdent(), CounterState);
      const turn = await manager.openTurn(token.ident);
      const controller = new AbortController();
      const calls = [
        failureOf(manager.modifyState(token, () => 1, { acquireTimeout: 30 })),
        failureOf(manager.modifyState(token, () => 1, { signal: controller.signal })),
        failureOf(manager.openTurn(token.ident, { acquireTimeout: 30 })),
      ];
      await untilWaiting(manager, 3);
      controller.abort();
      expect(manager.stats().waiting).toBe(2);
      await harness.advance(120);
      await Promise.all(calls);
      expect(manager.stats()).toMatchObject({ openTurns: 1, waiting: 0 });
      await turn.rollback();

      await expectNothing(manager);
    });

    it('S7: an unknown, an expired and a deleted token yield a new instance of the class', async () => {
      const manager = await harness.open({ expiration: 80 });
      const unknown = new StateToken(newIdent(), CartState);
      const expired = new StateToken(newIdent(), CartState);
      const deleted = new StateToken(newIdent(), CartState);
      for (const token of [expired, deleted]) {
        await manager.modifyState(token, (cart) => void cart.notes.push('x'));
      }
      await manager.deleteState(deleted.ident);
      await harness.advance(300);

      for (const token of [unknown, expired, deleted]) {
        const state = await manager.getState(token);
        expect(state).toStrictEqual(new CartState());
        expect(state).toBeInstanceOf(CartState);
        await using turn = await manager.openTurn(token.ident);
        expect(turn.isNew(CartState)).toBe(true);
        expect(await turn.state(CartState)).toStrictEqual(new CartState());
      }
      await expectNothing(manager);
    });

    it('S7: each fresh state is made anew', async () => {
      let made = 0;
      @State('numbered')
      class NumberedState {
        number = (made += 1);
      }
      const manager = await harness.open();
      const numbers = [];
      for (let round = 0; round < 3; round += 1) {
        numbers.push((await manager.getState(new StateToken(newIdent(), NumberedState))).number);
      }

      expect(new Set(numbers).size).toBe(3);
    });

    it('S7: reads and unchanged turns store nothing; a commit that changed something does', async () => {
      const manager = await harness.open();
      const token = new StateToken(newIdent(), CartState);
      const events: StateEvent[] = [];
      manager.events$.subscribe((event) => events.push(event));
      await manager.getState(token);
      await manager.modifyState(token, (cart) => cart.items.length);
      await manager.modifyState(token, (cart) => void (cart.total = 0));
      await using turn = await manager.openTurn(token.ident);
      await turn.commit();
      await expectNothing(manager);
      expect(events).toStrictEqual([]);

      await manager.modifyState(token, (cart) => void (cart.total = 5));
      expect(await manager.count()).toBe(1);
      expect(events).toMatchObject([{ type: 'created', states: ['cart'] }]);
    });

    it('S7: setState stores what it is given, also when that equals a fresh state', async () => {
      const manager = await harness.open();
      const token = new StateToken(newIdent(), CartState);
      await manager.setState(token, new CartState());

      expect(await manager.count()).toBe(1);
      await manager.modifyState(token, (_, turn) => expect(turn.isNew(CartState)).toBe(false));
    });

    it('S7: isNew tells what was stored when the turn began', async () => {
      const manager = await harness.open();
      const token = new StateToken(newIdent(), CounterState);
      await manager.modifyState(token, (counter, turn) => {
        expect(turn.isNew(CounterState)).toBe(true);
        counter.increment();
        expect(turn.isNew(CounterState)).toBe(true);
      });
      await manager.modifyState(token, (_, turn) => {
        expect(turn.isNew(CounterState)).toBe(false);
        expect(turn.isNew(CartState)).toBe(true);
      });
    });
  });
}

import { describe, expect, it } from '@jest/globals';
import { StateManagerClosedError, StateToken, type StateManager } from 'nestjs-state';
import { failureOf, Gate, newIdent, tick, untilWaiting, type ConformanceHarness } from './harness.js';
import { CartState, CounterState } from './states.js';

const expectClosed = async (manager: StateManager): Promise<void> => {
  const token = new StateToken(newIdent(), CounterState);
  const calls = [
    manager.getState(token),
    manager.setState(token, new CounterState()),
    manager.modifyState(token, () => 1),
    manager.deleteState(token.ident),
    manager.openTurn(token.ident),
    manager.count(),
  ];
  for (const call of calls) expect(await failureOf(call)).toBeInstanceOf(StateManagerClosedError);
};

export function lifecycleSuite(harness: ConformanceHarness): void {
  describe('lifecycle', () => {
    it('S14: shutdown rejects the waiters, waits for the open turn, and stores what it commits', async () => {
      const manager = await harness.open();
      const token = new StateToken(newIdent(), CounterState);
      const gate = new Gate();
      const running = manager.modifyState(token, async (counter) => {
        await gate.opened;
        counter.increment();
        await manager.modifyState(token, (same) => same.increment());
        return counter.count;
      });
      const waiters = Array.from({ length: 5 }, () => failureOf(manager.modifyState(token, () => 1)));
      await untilWaiting(manager, 5);
      let closed = false;
      const closing = manager.onModuleDestroy().then(() => (closed = true));

      for (const waiter of waiters) expect(await waiter).toBeInstanceOf(StateManagerClosedError);
      expect(await failureOf(manager.openTurn(newIdent()))).toBeInstanceOf(StateManagerClosedError);
      expect(await failureOf(manager.modifyState(token, () => 1))).toBeInstanceOf(StateManagerClosedError);
      await tick();
      expect(closed).toBe(false);
      expect(manager.stats().openTurns).toBe(1);
      gate.open();

      expect(await running).toBe(2);
      await closing;
      expect(manager.stats()).toMatchObject({ openTurns: 0, waiting: 0 });
      await expectClosed(manager);
    });

    it('S14: a turn that goes on beyond drainTimeout is given up: it cannot commit, and its signal says so', async () => {
      const manager = await harness.open({ drainTimeout: 60 });
      const turn = await manager.openTurn(newIdent());
      const { signal } = turn;
      (await turn.state(CounterState)).increment();
      const closing = manager.onModuleDestroy();
      await harness.advance(200);
      await closing;

      expect(signal.reason).toBeInstanceOf(StateManagerClosedError);
      expect(await failureOf(turn.commit())).toBeInstanceOf(StateManagerClosedError);
      await turn.rollback();
      expect(manager.stats()).toMatchObject({ openTurns: 0, waiting: 0 });
    });

    it('S14: a turn that ends during the drain ends the drain', async () => {
      const manager = await harness.open({ drainTimeout: '1h' });
      const turns = await Promise.all(Array.from({ length: 10 }, () => manager.openTurn(newIdent())));
      const closing = manager.onModuleDestroy();
      for (const turn of turns) {
        (await turn.state(CartState)).total = 1;
        await turn.commit();
      }

      await closing;
    });

    it('S14: closing twice, and at the same time, is fine', async () => {
      const manager = await harness.open();
      await manager.modifyState(new StateToken(newIdent(), CounterState), (counter) => counter.increment());
      await Promise.all([manager.onModuleDestroy(), manager.onModuleDestroy()]);
      await manager.onModuleDestroy();

      await expectClosed(manager);
    });

    it('S14: a hand-over that meets the shutdown runs nobody', async () => {
      const manager = await harness.open();
      const token = new StateToken(newIdent(), CounterState);
      const turn = await manager.openTurn(token.ident);
      let ran = false;
      const waiting = failureOf(manager.modifyState(token, () => (ran = true)));
      await untilWaiting(manager, 1);
      const released = turn.rollback();
      const closing = manager.onModuleDestroy();
      await Promise.all([released, closing]);

      expect(await waiting).toBeInstanceOf(StateManagerClosedError);
      expect(ran).toBe(false);
      expect(manager.stats()).toMatchObject({ openTurns: 0, waiting: 0 });
    });

    it('S14: closing without a turn takes no time, whatever is stored', async () => {
      const manager = await harness.open({ drainTimeout: '1h' });
      await Promise.all(
        Array.from({ length: 50 }, () =>
          manager.modifyState(new StateToken(newIdent(), CounterState), (counter) => counter.increment()),
        ),
      );
      await manager.onModuleDestroy();
    });

    it('S14: events complete at shutdown, after the last of them', async () => {
      const manager = await harness.open();
      const seen: string[] = [];
      manager.events$.subscribe({
        next: ({ type }) => seen.push(type),
        complete: () => seen.push('complete'),
      });
      const token = new StateToken(newIdent(), CounterState);
      await manager.modifyState(token, (counter) => counter.increment());
      await manager.onModuleDestroy();

      expect(seen).toStrictEqual(['created', 'complete']);
    });
  });
}

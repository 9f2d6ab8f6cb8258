import { describe, expect, it } from '@jest/globals';
import { LockExpiredError, StateToken, type StateEvent } from 'nestjs-state';
import { failureOf, Gate, newIdent, tick, untilWaiting, type ConformanceHarness } from './harness.js';
import { CounterState } from './states.js';

// Long enough for a machine that is busy with other tests, also where the clock is real.
const MAX_HOLD_MS = 600;
const LATE_MS = 1_200;

export function leaseSuite(harness: ConformanceHarness): void {
  const open = async () => ({
    manager: await harness.open({ maxHold: MAX_HOLD_MS }),
    token: new StateToken(newIdent(), CounterState),
  });

  describe('the lease of a lock', () => {
    it('S8: a turn that ends within maxHold commits', async () => {
      const { manager, token } = await open();
      await manager.modifyState(token, async (counter, turn) => {
        await harness.advance(MAX_HOLD_MS / 4);
        expect(turn.signal.aborted).toBe(false);
        counter.increment();
      });

      expect((await manager.getState(token)).count).toBe(1);
    });

    it('S8: after maxHold the signal aborts, the next one gets the lock, and the late commit is refused', async () => {
      const { manager, token } = await open();
      const events: StateEvent[] = [];
      manager.events$.subscribe((event) => events.push(event));
      const turn = await manager.openTurn(token.ident);
      const counter = await turn.state(CounterState);
      counter.count = 100;
      const { signal } = turn;
      const next = manager.modifyState(token, (state) => state.increment());
      await untilWaiting(manager, 1);
      await harness.advance(LATE_MS);
      await next;

      expect(signal.aborted).toBe(true);
      expect(signal.reason).toBeInstanceOf(LockExpiredError);
      expect(manager.stats()).toMatchObject({ openTurns: 0, waiting: 0 });
      counter.count += 1;
      expect(await failureOf(turn.commit())).toBeInstanceOf(LockExpiredError);
      expect((await manager.getState(token)).count).toBe(1);
      expect(events).toMatchObject([
        { type: 'lock-lost', states: [] },
        { type: 'created', states: ['counter'] },
      ]);
      expect(() => counter.count).toThrow(TypeError);
    });

    it('S8: the signal of a turn that lost its lock is aborted also when it is asked for only then', async () => {
      const { manager, token } = await open();
      const turn = await manager.openTurn(token.ident);
      await harness.advance(LATE_MS);

      expect(turn.signal.aborted).toBe(true);
      expect(turn.signal.reason).toBeInstanceOf(LockExpiredError);
      expect(await failureOf(turn.state(CounterState))).toBeInstanceOf(LockExpiredError);
      await turn.rollback();
    });

    it('S8: the end of a turn that lost its lock does not free the lock of its successor', async () => {
      const { manager, token } = await open();
      const lost = await manager.openTurn(token.ident);
      await harness.advance(LATE_MS);
      const successor = await manager.openTurn(token.ident);
      const third = manager.modifyState(token, (counter) => counter.count);
      await untilWaiting(manager, 1);
      await lost.rollback();
      await failureOf(lost.commit());
      await lost[Symbol.asyncDispose]();
      await tick();
      expect(manager.stats()).toMatchObject({ openTurns: 1, waiting: 1 });

      (await successor.state(CounterState)).count = 3;
      await successor.commit();
      expect(await third).toBe(3);
    });

    it('S8: a late writer of modifyState is refused, whatever its code does after the loss', async () => {
      const { manager, token } = await open();
      const gate = new Gate();
      const late = manager.modifyState(
        token,
        async (counter) => {
          await gate.opened;
          counter.count = 1_000;
          return 'done';
        },
        { label: 'Reports.slow' },
      );
      await harness.advance(LATE_MS);
      await manager.modifyState(token, (counter) => counter.increment());
      gate.open();
      const failure = await failureOf(late);

      expect(failure).toBeInstanceOf(LockExpiredError);
      expect((failure as Error).message).toMatch(/counter \(Reports\.slow\).*600 ms.*`maxHold`/);
      expect((await manager.getState(token)).count).toBe(1);
    });

    it('S8: maxHold counts also while the event loop is blocked, with no timer to say so', async () => {
      const { manager, token } = await open();
      const call = manager.modifyState(token, (counter) => {
        counter.increment();
        harness.block(LATE_MS);
      });

      expect(await failureOf(call)).toBeInstanceOf(LockExpiredError);
      expect(manager.stats()).toMatchObject({ openTurns: 0, waiting: 0 });
      expect((await manager.getState(token)).count).toBe(0);
    });

    it('S8: work inside a turn that lost its lock does not join it', async () => {
      const { manager, token } = await open();
      const call = manager.modifyState(token, async () => {
        await harness.advance(LATE_MS);
        await manager.modifyState(token, (counter) => counter.increment());
      });

      expect(await failureOf(call)).toBeInstanceOf(LockExpiredError);
      expect((await manager.getState(token)).count).toBe(0);
    });

    it('S8: each waiter has a maxHold of its own, from the moment it gets the lock', async () => {
      const { manager, token } = await open();
      const turn = await manager.openTurn(token.ident);
      const calls = [1, 2].map(() =>
        manager.modifyState(token, async (counter) => {
          await harness.advance(MAX_HOLD_MS / 2);
          counter.increment();
        }),
      );
      await untilWaiting(manager, 2);
      await harness.advance(MAX_HOLD_MS / 2);
      await turn.rollback();
      await Promise.all(calls);

      expect((await manager.getState(token)).count).toBe(2);
    });

    it('S8: when many turns lose their locks at once, each ident goes on', async () => {
      const { manager } = await open();
      const tokens = Array.from({ length: 50 }, () => new StateToken(newIdent(), CounterState));
      const turns = await Promise.all(tokens.map(({ ident }) => manager.openTurn(ident)));
      const next = tokens.map((token) => manager.modifyState(token, (counter) => counter.increment()));
      await harness.advance(LATE_MS);
      await Promise.all(next);
      const failures = await Promise.all(turns.map((turn) => failureOf(turn.commit())));

      for (const failure of failures) expect(failure).toBeInstanceOf(LockExpiredError);
      for (const token of tokens) expect((await manager.getState(token)).count).toBe(1);
    });
  });
}

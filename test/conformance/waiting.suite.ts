import { describe, expect, it } from '@jest/globals';
import {
  InvalidStateOptionsError,
  LockTimeoutError,
  StateToken,
  TooManyWaitersError,
  type StateManager,
} from 'nestjs-state';
import { failureOf, newIdent, untilWaiting, type ConformanceHarness } from './harness.js';
import { CounterState } from './states.js';

const POSITIONS = [0, 1, 2, 3, 4];

const served = (manager: StateManager, token: StateToken<CounterState>, order: number[], number: number) =>
  manager.modifyState(token, (counter) => {
    counter.increment();
    order.push(number);
  });

export function waitingSuite(harness: ConformanceHarness): void {
  describe('bounded waiting', () => {
    it('S9: waiting longer than acquireTimeout rejects, and the code never runs', async () => {
      const manager = await harness.open({ acquireTimeout: 80 });
      const token = new StateToken(newIdent(), CounterState);
      await using turn = await manager.openTurn(token.ident, { label: 'Reports.slow' });
      let ran = false;
      const call = failureOf(manager.modifyState(token, () => (ran = true)));
      const deletion = failureOf(manager.deleteState(token.ident));
      const setting = failureOf(manager.setState(token, new CounterState()));
      await harness.advance(250);

      const failure = await call;
      expect(failure).toBeInstanceOf(LockTimeoutError);
      expect((failure as Error).message).toMatch(/counter.*80 ms.*Reports\.slow.*`acquireTimeout`/);
      expect(await deletion).toBeInstanceOf(LockTimeoutError);
      expect(await setting).toBeInstanceOf(LockTimeoutError);
      expect(manager.stats()).toMatchObject({ openTurns: 1, waiting: 0 });
      await turn.rollback();
      await harness.advance(20);
      expect(ran).toBe(false);
    });

    it('S9: the acquireTimeout of one call beats that of the module; 0 tries once', async () => {
      const manager = await harness.open({ acquireTimeout: '30s' });
      const token = new StateToken(newIdent(), CounterState);
      expect(await manager.modifyState(token, () => 'free', { acquireTimeout: 0 })).toBe('free');
      await using turn = await manager.openTurn(token.ident);
      const calls = [0, '20ms'].map((acquireTimeout) =>
        failureOf(manager.modifyState(token, () => 1, { acquireTimeout })),
      );
      await harness.advance(120);

      for (const call of calls) expect(await call).toBeInstanceOf(LockTimeoutError);
      await turn.rollback();
    });

    it('S9: an acquireTimeout that is no duration is refused, whether or not the lock is free', async () => {
      const manager = await harness.open();
      const token = new StateToken(newIdent(), CounterState);
      const options = { acquireTimeout: 'soon' };
      expect(await failureOf(manager.modifyState(token, () => 1, options))).toBeInstanceOf(
        InvalidStateOptionsError,
      );
      await using turn = await manager.openTurn(token.ident);
      expect(await failureOf(manager.modifyState(token, () => 1, options))).toBeInstanceOf(
        InvalidStateOptionsError,
      );
      await turn.rollback();
    });

    it('S9: more than maxWaiters queued on one ident rejects at once, and only there', async () => {
      const manager = await harness.open({ maxWaiters: 3 });
      const token = new StateToken(newIdent(), CounterState);
      const turn = await manager.openTurn(token.ident);
      const order: number[] = [];
      const waiters = [0, 1, 2].map((number) => served(manager, token, order, number));
      await untilWaiting(manager, 3);
      const failure = await failureOf(served(manager, token, order, 3));
      const elsewhere = new StateToken(newIdent(), CounterState);
      await manager.modifyState(elsewhere, (counter) => counter.increment());

      expect(failure).toBeInstanceOf(TooManyWaitersError);
      expect((failure as Error).message).toMatch(/3 callers.*`maxWaiters`/);
      await turn.rollback();
      await Promise.all(waiters);
      expect(order).toStrictEqual([0, 1, 2]);
    });

    it('S9: with maxWaiters 0 nobody waits', async () => {
      const manager = await harness.open({ maxWaiters: 0 });
      const token = new StateToken(newIdent(), CounterState);
      await using turn = await manager.openTurn(token.ident);
      expect(await failureOf(manager.modifyState(token, () => 1))).toBeInstanceOf(TooManyWaitersError);
      await turn.rollback();
      expect(await manager.modifyState(token, () => 1)).toBe(1);
    });

    it.each(POSITIONS)(
      'S9: an aborted waiter at place %i leaves the queue and swallows no wake-up',
      async (place) => {
        const manager = await harness.open();
        const token = new StateToken(newIdent(), CounterState);
        const turn = await manager.openTurn(token.ident);
        const order: number[] = [];
        const controller = new AbortController();
        const reason = new Error('gone');
        const waiters = POSITIONS.map((number) =>
          number === place
            ? failureOf(manager.modifyState(token, () => order.push(-1), { signal: controller.signal }))
            : served(manager, token, order, number),
        );
        await untilWaiting(manager, POSITIONS.length);
        controller.abort(reason);
        expect(await waiters[place]).toBe(reason);
        expect(manager.stats().waiting).toBe(POSITIONS.length - 1);
        await turn.rollback();
        await Promise.all(waiters);

        expect(order).toStrictEqual(POSITIONS.filter((number) => number !== place));
        expect(manager.stats()).toMatchObject({ openTurns: 0, waiting: 0 });
      },
    );

    it.each(POSITIONS)(
      'S9: a waiter at place %i that times out leaves the queue and swallows no wake-up',
      async (place) => {
        const manager = await harness.open();
        const token = new StateToken(newIdent(), CounterState);
        const turn = await manager.openTurn(token.ident);
        const order: number[] = [];
        const waiters = POSITIONS.map((number) =>
          number === place
            ? failureOf(manager.modifyState(token, () => order.push(-1), { acquireTimeout: 30 }))
            : served(manager, token, order, number),
        );
        await untilWaiting(manager, POSITIONS.length);
        await harness.advance(100);
        expect(await waiters[place]).toBeInstanceOf(LockTimeoutError);
        await turn.rollback();
        await Promise.all(waiters);

        expect(order).toStrictEqual(POSITIONS.filter((number) => number !== place));
      },
    );

    it.each([
      ['before the release, in its tick', true],
      ['after the release, in its tick', false],
    ])('S9: an abort %s wakes the next waiter', async (_, before) => {
      const manager = await harness.open();
      const token = new StateToken(newIdent(), CounterState);
      const turn = await manager.openTurn(token.ident);
      const order: number[] = [];
      const controller = new AbortController();
      const aborted = failureOf(
        manager.modifyState(token, () => order.push(-1), { signal: controller.signal }),
      );
      const next = [0, 1].map((number) => served(manager, token, order, number));
      await untilWaiting(manager, 3);
      if (before) controller.abort();
      const released = turn.rollback();
      if (!before) controller.abort();
      await Promise.all([released, ...next]);

      expect(await aborted).toMatchObject({ name: 'AbortError' });
      expect(order).toStrictEqual([0, 1]);
      expect(manager.stats()).toMatchObject({ openTurns: 0, waiting: 0 });
    });

    it('S9: when every waiter is aborted in the tick of its hand-over, the lock is free afterwards', async () => {
      const manager = await harness.open();
      const token = new StateToken(newIdent(), CounterState);
      const turn = await manager.openTurn(token.ident);
      const controller = new AbortController();
      const waiters = Array.from({ length: 30 }, () =>
        failureOf(manager.modifyState(token, () => 1, { signal: controller.signal })),
      );
      await untilWaiting(manager, 30);
      const released = turn.rollback();
      controller.abort();
      await Promise.all([released, ...waiters]);

      expect(manager.stats()).toMatchObject({ openTurns: 0, waiting: 0 });
      expect(await manager.modifyState(token, () => 'free')).toBe('free');
    });

    it('S9: a timeout that falls due together with the release loses nobody', async () => {
      const manager = await harness.open();
      const token = new StateToken(newIdent(), CounterState);
      const results: string[] = [];
      for (let round = 0; round < 10; round += 1) {
        const turn = await manager.openTurn(token.ident);
        const calls = Array.from({ length: 4 }, () =>
          manager
            .modifyState(token, (counter) => counter.increment(), { acquireTimeout: 10 })
            .then(
              () => results.push('served'),
              (error: unknown) => results.push((error as Error).name),
            ),
        );
        await untilWaiting(manager, 4);
        await harness.advance(10);
        await turn.rollback();
        await harness.advance(50);
        await Promise.all(calls);
      }
      expect(results).toHaveLength(40);
      const servedCount = results.filter((result) => result === 'served').length;
      expect((await manager.getState(token)).count).toBe(servedCount);
      expect(new Set(results.filter((result) => result !== 'served')).size).toBeLessThan(2);
      expect(manager.stats()).toMatchObject({ openTurns: 0, waiting: 0 });
    });

    it('S9: a signal that is aborted already rejects with its reason and takes no lock', async () => {
      const manager = await harness.open();
      const token = new StateToken(newIdent(), CounterState);
      const reason = new Error('too late');
      const signal = AbortSignal.abort(reason);
      expect(await failureOf(manager.modifyState(token, () => 1, { signal }))).toBe(reason);
      expect(await failureOf(manager.openTurn(token.ident, { signal }))).toBe(reason);
      expect(manager.stats()).toMatchObject({ openTurns: 0, waiting: 0 });
    });

    it('S9: a signal aborted while the code runs refuses the commit and keeps the lock until the code ends', async () => {
      const manager = await harness.open();
      const token = new StateToken(newIdent(), CounterState);
      const controller = new AbortController();
      const reason = new Error('gone');
      const call = manager.modifyState(
        token,
        async (counter, turn) => {
          counter.increment();
          expect(turn.signal.aborted).toBe(false);
          controller.abort(reason);
          expect(turn.signal.reason).toBe(reason);
          await harness.advance(5);
          expect(manager.stats().openTurns).toBe(1);
        },
        { signal: controller.signal },
      );

      expect(await failureOf(call)).toBe(reason);
      expect((await manager.getState(token)).count).toBe(0);
      expect(manager.stats().openTurns).toBe(0);
    });
  });
}

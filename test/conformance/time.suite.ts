import { afterEach, describe, expect, it, jest } from '@jest/globals';
import { StateToken } from 'nestjs-state';
import { newIdent, untilWaiting, type ConformanceHarness } from './harness.js';
import { CounterState } from './states.js';

const DAY_MS = 86_400_000;
const YEAR_MS = 365 * DAY_MS;

export function timeSuite(harness: ConformanceHarness): void {
  describe('time', () => {
    afterEach(() => {
      jest.restoreAllMocks();
    });

    it.each([
      ['a century ahead', 100 * YEAR_MS],
      ['a century back', -100 * YEAR_MS],
    ])('S15: setting the wall clock %s ends no window, no lock and no wait', async (_, jumpMs) => {
      const manager = await harness.open({ expiration: 400, maxHold: 3_000, acquireTimeout: 3_000 });
      const token = new StateToken(newIdent(), CounterState);
      await manager.modifyState(token, (counter) => counter.increment());
      const turn = await manager.openTurn(token.ident);
      const waiting = manager.modifyState(token, (counter) => counter.count);
      await untilWaiting(manager, 1);

      const jumpedMs = Date.now() + jumpMs;
      jest.spyOn(Date, 'now').mockReturnValue(jumpedMs);
      await harness.advance(50);
      expect(turn.signal.aborted).toBe(false);
      expect(manager.stats()).toMatchObject({ openTurns: 1, waiting: 1 });
      await turn.rollback();
      expect(await waiting).toBe(1);
      await harness.advance(100);
      expect((await manager.getState(token)).count).toBe(1);
      await harness.advance(700);
      expect(await manager.count()).toBe(0);
    });

    it('S15: durations beyond the longest timer are not over at once', async () => {
      const manager = await harness.open({
        expiration: '30d',
        maxHold: '60d',
        acquireTimeout: '90d',
        drainTimeout: '30d',
      });
      const token = new StateToken(newIdent(), CounterState);
      await manager.modifyState(token, (counter) => counter.increment());
      await harness.advance(40);
      expect(await manager.count()).toBe(1);
      const turn = await manager.openTurn(token.ident);
      const waiting = manager.modifyState(token, (counter) => counter.count);
      await untilWaiting(manager, 1);
      await harness.advance(40);

      expect(turn.signal.aborted).toBe(false);
      expect(manager.stats()).toMatchObject({ openTurns: 1, waiting: 1 });
      await turn.commit();
      expect(await waiting).toBe(1);
    });

    if (harness.clock === 'fake') {
      it('S15: durations beyond the longest timer end when they are over', async () => {
        const manager = await harness.open({ expiration: '40d', maxHold: '60d', acquireTimeout: '30d' });
        const token = new StateToken(newIdent(), CounterState);
        await manager.modifyState(token, (counter) => counter.increment());
        const turn = await manager.openTurn(token.ident);
        const waiting = manager
          .modifyState(token, () => 1)
          .then(
            () => 'served',
            (error: Error) => error.name,
          );
        await untilWaiting(manager, 1);
        await harness.advance(29 * DAY_MS);
        expect(manager.stats().waiting).toBe(1);
        await harness.advance(2 * DAY_MS);
        expect(await waiting).toBe('LockTimeoutError');
        await harness.advance(28 * DAY_MS);
        expect(turn.signal.aborted).toBe(false);
        await harness.advance(2 * DAY_MS);
        expect(turn.signal.aborted).toBe(true);
        await harness.advance(38 * DAY_MS);
        expect(await manager.count()).toBe(1);
        await harness.advance(3 * DAY_MS);

        expect(await manager.count()).toBe(0);
      });
    }
  });
}

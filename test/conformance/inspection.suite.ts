import { describe, expect, it } from '@jest/globals';
import { StateToken } from 'nestjs-state';
import { newIdent, untilWaiting, type ConformanceHarness } from './harness.js';
import { CounterState } from './states.js';

export function inspectionSuite(harness: ConformanceHarness): void {
  describe('inspection', () => {
    it('shows nothing where nothing is going on', async () => {
      const manager = await harness.open();
      await manager.modifyState(new StateToken(newIdent(), CounterState), (counter) => counter.increment());
      expect(manager.inspect()).toStrictEqual({
        ...manager.stats(),
        openTurns: 0,
        waiting: 0,
        turns: [],
        longestHoldMs: 0,
        oldestWaiter: undefined,
        oldestWaitMs: 0,
      });
    });

    it('shows the longest held locks first, with who holds them, for how long, and how many wait', async () => {
      const manager = await harness.open({ expiration: '1h' });
      const [first, second] = [newIdent(), newIdent()];
      const long = await manager.openTurn(first, { label: 'Reports.slow' });
      await long.state(CounterState);
      await harness.advance(60);
      const short = await manager.openTurn(second);
      const waiter = manager.openTurn(first, { label: 'Reports.late' });
      await untilWaiting(manager, 1);
      await harness.advance(30);

      const { turns, longestHoldMs, oldestWaiter, oldestWaitMs, ...stats } = manager.inspect();
      expect(stats).toStrictEqual(manager.stats());
      expect(turns.map(({ label, states, waiting }) => [label, states, waiting])).toStrictEqual([
        ['Reports.slow', ['counter'], 1],
        ['a state', [], 0],
      ]);
      expect(turns[0]?.heldMs).toBe(longestHoldMs);
      expect(longestHoldMs).toBeGreaterThanOrEqual(90);
      expect(turns[1]?.heldMs).toBeLessThanOrEqual(longestHoldMs - 60);
      expect(oldestWaiter).toStrictEqual({
        label: 'Reports.late',
        waitedMs: oldestWaitMs,
        identHash: turns[0]?.identHash,
      });
      expect(oldestWaitMs).toBeGreaterThanOrEqual(30);
      expect(oldestWaitMs).toBeLessThanOrEqual(longestHoldMs - 60);
      expect(manager.inspect(1).turns.map(({ label }) => label)).toStrictEqual(['Reports.slow']);
      expect(manager.inspect(0)).toMatchObject({ turns: [], oldestWaitMs: expect.any(Number) });

      await long.rollback();
      await (await waiter).rollback();
      await short.rollback();
      expect(manager.inspect()).toMatchObject({ turns: [], longestHoldMs: 0, oldestWaitMs: 0 });
    });

    it('finds the oldest waiter over all idents', async () => {
      const manager = await harness.open({ expiration: '1h' });
      const idents = [newIdent(), newIdent()] as const;
      const holders = await Promise.all(idents.map((ident) => manager.openTurn(ident)));
      const waiters = [manager.openTurn(idents[1], { label: 'early' })];
      await untilWaiting(manager, 1);
      await harness.advance(20);
      waiters.push(manager.openTurn(idents[0], { label: 'later' }), manager.openTurn(idents[1]));
      await untilWaiting(manager, 3);
      expect(manager.inspect().oldestWaiter?.label).toBe('early');
      for (const holder of holders) await holder.rollback();
      for (const waiter of waiters) await (await waiter).rollback();
    });

    it('shows no ident', async () => {
      const manager = await harness.open();
      const ident = newIdent();
      const turn = await manager.openTurn(ident);
      const waiter = manager.openTurn(ident);
      await untilWaiting(manager, 1);
      const shown = JSON.stringify(manager.inspect());
      expect(shown).toContain('oldestWaiter');
      expect(shown).not.toContain(ident);
      await turn.rollback();
      await (await waiter).rollback();
    });

    const { openSecond } = harness;
    if (openSecond === undefined) return;

    it('shows who waits for a lock that another process has', async () => {
      const manager = await harness.open();
      const other = await openSecond();
      const ident = newIdent();
      const turn = await manager.openTurn(ident, { label: 'theirs' });
      const waiter = other.openTurn(ident, { label: 'ours' });
      await untilWaiting(other, 1);
      await harness.advance(20);
      const { turns, oldestWaiter, oldestWaitMs } = other.inspect();
      expect(turns).toStrictEqual([]);
      expect(oldestWaiter?.label).toBe('ours');
      expect(oldestWaitMs).toBeGreaterThanOrEqual(20);
      await turn.rollback();
      await (await waiter).rollback();
      expect(other.inspect().oldestWaiter).toBeUndefined();
    });
  });
}

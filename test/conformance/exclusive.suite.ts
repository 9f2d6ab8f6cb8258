import { describe, expect, it } from '@jest/globals';
import { StateToken } from 'nestjs-state';
import { Gate, newIdent, tick, untilWaiting, type ConformanceHarness } from './harness.js';
import { CartState, CounterState } from './states.js';

// Who waits for a lock here waits until the test ends: the rest is what a busy machine may take.
const NO_WAIT_MS = 1_000;

export function exclusiveSuite(harness: ConformanceHarness): void {
  describe('exclusive turns', () => {
    it('S1: 500 parallel read-await-write turns of one ident end at exactly 500, and delay no other ident', async () => {
      const manager = await harness.open();
      const token = new StateToken(newIdent(), CounterState);
      const crowd = Array.from({ length: 500 }, () =>
        manager.modifyState(token, async (counter) => {
          const { count } = counter;
          await tick();
          counter.count = count + 1;
          return counter.count;
        }),
      );
      const startMs = performance.now();
      await manager.modifyState(new StateToken(newIdent(), CounterState), (counter) => counter.increment());
      const otherTookMs = performance.now() - startMs;

      expect(await Promise.all(crowd)).toStrictEqual(Array.from({ length: 500 }, (_, index) => index + 1));
      expect((await manager.getState(token)).count).toBe(500);
      expect(otherTookMs).toBeLessThan(NO_WAIT_MS);
    });

    it('S1: one ident has one open turn at a time, whatever its turns end in', async () => {
      const manager = await harness.open();
      const token: StateToken<unknown> = new StateToken<unknown>(newIdent(), CounterState);
      let open = 0;
      let most = 0;
      const turns = Array.from({ length: 120 }, (_, index) =>
        manager.modifyState(index % 2 === 0 ? token : token.withClass(CartState), async () => {
          open += 1;
          most = Math.max(most, open);
          await tick();
          open -= 1;
          if (index % 3 === 0) throw new Error('refused');
        }),
      );
      await Promise.allSettled(turns);

      expect(most).toBe(1);
      expect(manager.stats()).toMatchObject({ openTurns: 0, waiting: 0 });
    });

    it('S1: waiters are served first in, first out, and a newcomer overtakes nobody', async () => {
      const manager = await harness.open();
      const token = new StateToken(newIdent(), CounterState);
      const order: number[] = [];
      const holder = await manager.openTurn(token.ident);
      const join = (number: number) => manager.modifyState(token, () => void order.push(number));
      const waiters = Array.from({ length: 20 }, (_, index) => join(index));
      await untilWaiting(manager, 20);

      const released = holder.rollback();
      // In the tick of the release the lock belongs to the first waiter already.
      waiters.push(join(20));
      await Promise.all([released, ...waiters]);

      expect(order).toStrictEqual(Array.from({ length: 21 }, (_, index) => index));
    });

    it('S1: a held ident delays no other one', async () => {
      const manager = await harness.open();
      const held = newIdent();
      await using turn = await manager.openTurn(held);
      const waiting = manager.modifyState(new StateToken(held, CounterState), (counter) => counter.count);
      const startMs = performance.now();
      await Promise.all(
        Array.from({ length: 50 }, () =>
          manager.modifyState(new StateToken(newIdent(), CounterState), (counter) => counter.increment()),
        ),
      );

      expect(performance.now() - startMs).toBeLessThan(NO_WAIT_MS);
      expect(manager.stats()).toMatchObject({ openTurns: 1, waiting: 1 });
      await turn.rollback();
      expect(await waiting).toBe(0);
    });

    it('S1: all states of one ident share one lock', async () => {
      const manager = await harness.open();
      const counters = new StateToken(newIdent(), CounterState);
      const gate = new Gate();
      const order: string[] = [];
      const first = manager.modifyState(counters, async () => {
        await gate.opened;
        order.push('counter');
      });
      const second = manager.modifyState(counters.withClass(CartState), () => void order.push('cart'));
      await untilWaiting(manager, 1);
      expect(order).toStrictEqual([]);
      gate.open();
      await Promise.all([first, second]);

      expect(order).toStrictEqual(['counter', 'cart']);
    });

    if (harness.openSecond !== undefined) {
      const openSecond = harness.openSecond.bind(harness);
      it('S1: two managers on one store never have a turn of one ident at the same time', async () => {
        const managers = [await harness.open(), await openSecond()];
        const token = new StateToken(newIdent(), CounterState);
        let open = 0;
        let most = 0;
        await Promise.all(
          Array.from({ length: 100 }, (_, index) =>
            managers[index % 2]?.modifyState(token, async (counter) => {
              open += 1;
              most = Math.max(most, open);
              const { count } = counter;
              await tick();
              counter.count = count + 1;
              open -= 1;
            }),
          ),
        );

        expect(most).toBe(1);
        for (const manager of managers) expect((await manager.getState(token)).count).toBe(100);
      });
    }
  });
}

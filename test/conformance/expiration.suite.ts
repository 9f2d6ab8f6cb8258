import { describe, expect, it } from '@jest/globals';
import { StateToken } from 'nestjs-state';
import { failureOf, newIdent, untilWaiting, type ConformanceHarness } from './harness.js';
import { CartState, CounterState } from './states.js';

// Far enough apart for a machine that is busy with other tests, also where the clock is real.
const EXPIRATION_MS = 600;
const PART_MS = 200;
const LONG_MS = 1_000;

export function expirationSuite(harness: ConformanceHarness): void {
  const openCounted = async (expiration = EXPIRATION_MS) => {
    const manager = await harness.open({ expiration });
    const token = new StateToken(newIdent(), CounterState);
    await manager.modifyState(token, (counter) => counter.increment());
    return { manager, token };
  };

  describe('sliding expiration', () => {
    it('S4: an idle state is gone after the window', async () => {
      const { manager, token } = await openCounted();
      await harness.advance(PART_MS);
      expect(await manager.count()).toBe(1);
      await harness.advance(LONG_MS);

      expect(await manager.count()).toBe(0);
      expect((await manager.getState(token)).count).toBe(0);
    });

    type Touch = (
      manager: Awaited<ReturnType<typeof openCounted>>['manager'],
      ident: string,
    ) => Promise<unknown>;
    const touches: [string, Touch][] = [
      ['a read', (manager, ident) => manager.getState(new StateToken(ident, CounterState))],
      [
        'a turn that changes nothing',
        (manager, ident) => manager.modifyState(new StateToken(ident, CounterState), () => undefined),
      ],
      [
        'a turn of another state of the ident',
        (manager, ident) =>
          manager.modifyState(new StateToken(ident, CartState), (cart) => void (cart.total += 1)),
      ],
      [
        'a turn that fails',
        (manager, ident) =>
          failureOf(
            manager.modifyState(new StateToken(ident, CounterState), () => Promise.reject(new Error())),
          ),
      ],
      ['a turn that is rolled back', async (manager, ident) => (await manager.openTurn(ident)).rollback()],
    ];
    it.each(touches)('S4: %s starts a fresh window', async (_, touch) => {
      const { manager, token } = await openCounted();
      for (let round = 0; round < 3; round += 1) {
        await harness.advance(PART_MS);
        await touch(manager, token.ident);
      }
      await harness.advance(PART_MS);
      expect((await manager.getState(token)).count).toBe(1);
      await harness.advance(LONG_MS);

      expect(await manager.count()).toBe(0);
    });

    it('S4: all states of an ident expire together', async () => {
      const { manager, token } = await openCounted();
      await manager.modifyState(token.withClass(CartState), (cart) => void (cart.total = 5));
      for (let round = 0; round < 3; round += 1) {
        await harness.advance(PART_MS);
        await manager.getState(token.withClass(CartState));
      }
      expect((await manager.getState(token)).count).toBe(1);
      await harness.advance(LONG_MS);

      expect((await manager.getState(token)).count).toBe(0);
      expect((await manager.getState(token.withClass(CartState))).total).toBe(0);
    });

    it('S4: reading another ident, or one that is unknown, keeps nothing alive', async () => {
      const { manager } = await openCounted();
      for (let round = 0; round < 4; round += 1) {
        await harness.advance(PART_MS);
        await manager.getState(new StateToken(newIdent(), CounterState));
      }

      expect(await manager.count()).toBe(0);
    });

    it('S4: the window counts from the release of the lock, not from its acquisition', async () => {
      const { manager, token } = await openCounted();
      const turn = await manager.openTurn(token.ident);
      await harness.advance(EXPIRATION_MS - 40);
      await turn.rollback();
      await harness.advance(PART_MS);
      expect(await manager.count()).toBe(1);
      await harness.advance(LONG_MS);

      expect(await manager.count()).toBe(0);
    });

    it('S5: a state under an open turn is not purged, however long the turn takes', async () => {
      const { manager, token } = await openCounted();
      await manager.modifyState(token, async () => {
        await harness.advance(EXPIRATION_MS + LONG_MS);
        expect(await manager.count()).toBe(1);
        expect((await manager.getState(token)).count).toBe(1);
      });

      expect((await manager.getState(token)).count).toBe(1);
    });

    it('S5: a state with a waiter queued is not purged, and the waiter gets it', async () => {
      const { manager, token } = await openCounted();
      const turn = await manager.openTurn(token.ident);
      const waiting = manager.modifyState(token, (counter) => {
        counter.increment();
        return counter.count;
      });
      await untilWaiting(manager, 1);
      await harness.advance(EXPIRATION_MS + LONG_MS);
      await turn.rollback();

      expect(await waiting).toBe(2);
    });

    it('S4, S15: a state whose window ended while the event loop was blocked is gone to the next caller', async () => {
      const { manager, token } = await openCounted();
      const other = new StateToken(newIdent(), CounterState);
      await manager.modifyState(other, (counter) => counter.increment());
      harness.block(EXPIRATION_MS + PART_MS);

      expect((await manager.getState(token)).count).toBe(0);
      expect(await manager.modifyState(other, (counter) => counter.count)).toBe(0);
    });

    it('S5: a turn that began in time keeps its state, also when the event loop is blocked', async () => {
      const { manager, token } = await openCounted();
      const count = await manager.modifyState(token, (counter) => {
        harness.block(EXPIRATION_MS + PART_MS);
        counter.increment();
        return counter.count;
      });

      expect(count).toBe(2);
      expect((await manager.getState(token)).count).toBe(2);
    });

    it('S4: states that expire together with others leave those of a later deadline alone', async () => {
      const { manager, token } = await openCounted(1_000);
      await harness.advance(700);
      const later = Array.from({ length: 40 }, () => new StateToken(newIdent(), CounterState));
      await Promise.all(later.map((each) => manager.modifyState(each, (counter) => counter.increment())));
      await harness.advance(400);

      expect(await manager.count()).toBe(40);
      expect((await manager.getState(token)).count).toBe(0);
      await harness.advance(1_500);
      expect(await manager.count()).toBe(0);
    });
  });
}

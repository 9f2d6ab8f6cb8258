import { describe, expect, it } from '@jest/globals';
import { InvalidStateTokenError, LockExpiredError, StateToken, type StateEvent } from 'nestjs-state';
import { failureOf, newIdent, seededRandom, tick, untilWaiting, type ConformanceHarness } from './harness.js';
import { CartState, CounterState } from './states.js';

export function deleteSuite(harness: ConformanceHarness): void {
  const openCounted = async () => {
    const manager = await harness.open({ maxHold: 1_000 });
    const token = new StateToken(newIdent(), CounterState);
    await manager.modifyState(token, (counter) => counter.increment());
    const events: StateEvent[] = [];
    manager.events$.subscribe((event) => events.push(event));
    return { manager, token, events };
  };

  describe('delete', () => {
    it('S11: deleteState removes every state of the ident, and tells whether there was one', async () => {
      const { manager, token, events } = await openCounted();
      await manager.modifyState(token.withClass(CartState), (cart) => void (cart.total = 5));

      expect(await manager.deleteState(token.ident)).toBe(true);
      expect(await manager.deleteState(token.ident)).toBe(false);
      expect(await manager.deleteState(newIdent())).toBe(false);
      expect((await manager.getState(token)).count).toBe(0);
      expect((await manager.getState(token.withClass(CartState))).total).toBe(0);
      const deletions = events.filter(({ type }) => type === 'deleted');
      expect(deletions).toHaveLength(1);
      expect([...(deletions[0]?.states ?? [])].sort()).toStrictEqual(['cart', 'counter']);
    });

    it('S11: deleteState leaves other idents alone', async () => {
      const { manager, token } = await openCounted();
      await manager.deleteState(newIdent());
      await manager.deleteState(`${token.ident}x`);
      await manager.deleteState(token.ident.slice(0, -1));

      expect((await manager.getState(token)).count).toBe(1);
    });

    it('S11: an ident that is none is refused', async () => {
      const { manager } = await openCounted();
      for (const ident of ['', 'a\nb', 'x'.repeat(257), 5, undefined, ['a']]) {
        expect(await failureOf(manager.deleteState(ident as string))).toBeInstanceOf(InvalidStateTokenError);
        expect(await failureOf(manager.openTurn(ident as string))).toBeInstanceOf(InvalidStateTokenError);
      }
    });

    it('S11: deleteState takes its turn: it waits for the open one, and wins over what that one commits', async () => {
      const { manager, token } = await openCounted();
      const turn = await manager.openTurn(token.ident);
      const deletion = manager.deleteState(token.ident);
      await untilWaiting(manager, 1);
      (await turn.state(CounterState)).count = 50;
      await turn.commit();

      expect(await deletion).toBe(true);
      expect((await manager.getState(token)).count).toBe(0);
      expect(await manager.count()).toBe(0);
    });

    it('S11: what a turn loaded before it lost its lock cannot be committed over a delete', async () => {
      const { manager, token } = await openCounted();
      const turn = await manager.openTurn(token.ident);
      const counter = await turn.state(CounterState);
      await harness.advance(2_000);
      expect(await manager.deleteState(token.ident)).toBe(true);
      counter.count = 50;

      expect(await failureOf(turn.commit())).toBeInstanceOf(LockExpiredError);
      expect(await manager.count()).toBe(0);
    });

    it('S11: deleteState inside a turn joins it: the draft from before leads nowhere', async () => {
      const { manager, token } = await openCounted();
      const returned = await manager.modifyState(token, async (counter) => {
        counter.count = 20;
        expect(await manager.deleteState(token.ident)).toBe(true);
        expect(await manager.deleteState(token.ident)).toBe(false);
        counter.count = 50;
        await tick();
        expect((await manager.getState(token)).count).toBe(1);
        return { count: counter.count };
      });

      expect(returned).toStrictEqual({ count: 50 });
      expect(await manager.count()).toBe(0);
      expect((await manager.getState(token)).count).toBe(0);
    });

    it('S11: a state that is set up anew after a delete in the same turn starts fresh, and is stored', async () => {
      const { manager, token, events } = await openCounted();
      await manager.modifyState(token, async (counter, turn) => {
        await manager.deleteState(token.ident);
        const fresh = await turn.state(CounterState);
        expect(fresh).not.toBe(counter);
        expect(fresh.count).toBe(0);
        fresh.count = 5;
        counter.count = 99;
      });

      expect((await manager.getState(token)).count).toBe(5);
      expect(events.map(({ type }) => type)).toStrictEqual(['deleted', 'created']);
    });

    it('S11: a delete inside a turn that fails is undone with it', async () => {
      const { manager, token, events } = await openCounted();
      const call = manager.modifyState(token, async () => {
        await manager.deleteState(token.ident);
        throw new Error('refused');
      });
      await failureOf(call);

      expect((await manager.getState(token)).count).toBe(1);
      expect(events).toStrictEqual([]);
    });

    it('S11: increments and deletes that race end as if they had run one after the other', async () => {
      const { manager, token } = await openCounted();
      const random = seededRandom(7);
      let expected = 1;
      const expectedResults: unknown[] = [];
      const calls: Promise<unknown>[] = [];
      for (let index = 0; index < 200; index += 1) {
        if (random() < 0.2) {
          expectedResults.push(expected > 0);
          expected = 0;
          calls.push(manager.deleteState(token.ident));
        } else {
          expected += 1;
          expectedResults.push(expected);
          calls.push(
            manager.modifyState(token, async (counter) => {
              const { count } = counter;
              if (index % 3 === 0) await tick();
              counter.count = count + 1;
              return counter.count;
            }),
          );
        }
      }

      expect(await Promise.all(calls)).toStrictEqual(expectedResults);
      expect((await manager.getState(token)).count).toBe(expected);
    });
  });
}

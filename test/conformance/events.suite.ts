import { map } from 'rxjs';
import { describe, expect, it } from '@jest/globals';
import { StateToken, type StateEvent } from 'nestjs-state';
import { RecordedLogs } from '../support/manager-logs.js';
import { failureOf, newIdent, tick, type ConformanceHarness } from './harness.js';
import { CartState, CounterState } from './states.js';

export function eventsSuite(harness: ConformanceHarness): void {
  describe('events', () => {
    it('tells of created, expired and deleted states, once each, and only of what is committed', async () => {
      const manager = await harness.open({ expiration: 500 });
      const token = new StateToken(newIdent(), CounterState);
      const events: StateEvent[] = [];
      manager.events$.subscribe((event) => events.push(event));
      await failureOf(
        manager.modifyState(token, (counter) => {
          counter.increment();
          throw new Error('refused');
        }),
      );
      await manager.modifyState(token, (counter) => counter.increment());
      await manager.modifyState(token, (counter) => counter.increment());
      await manager.modifyState(token.withClass(CartState), (cart) => void (cart.total = 1));
      await harness.advance(1_250);
      await manager.modifyState(token, (counter) => counter.increment());
      await manager.deleteState(token.ident);

      expect(events.map(({ type, states }) => [type, [...states].sort()])).toStrictEqual([
        ['created', ['counter']],
        ['created', ['cart']],
        ['expired', ['cart', 'counter']],
        ['created', ['counter']],
        ['deleted', ['counter']],
      ]);
    });

    it('S10: a subscriber is inside of no turn: what it changes is a turn of its own', async () => {
      const manager = await harness.open();
      const token = new StateToken(newIdent(), CounterState);
      const changes: Promise<number>[] = [];
      manager.events$.subscribe(() => {
        changes.push(manager.modifyState(token, (counter) => (counter.count += 10)));
      });
      await manager.modifyState(new StateToken(newIdent(), CartState), async (cart) => {
        cart.total = 1;
        await manager.modifyState(token, async (counter, turn) => {
          counter.increment();
          await turn.commit();
        });
      });

      expect(await Promise.all(changes)).toStrictEqual([11, 21]);
    });

    it('a subscriber that throws is logged, stays subscribed, and disturbs nobody', async () => {
      const logs = RecordedLogs.start();
      const manager = await harness.open();
      const token = new StateToken(newIdent(), CounterState);
      let thrown = 0;
      const others: string[] = [];
      const explode = (): never => {
        thrown += 1;
        throw new Error('subscriber');
      };
      manager.events$.subscribe(explode);
      manager.events$.pipe(map(({ type }) => type)).subscribe(explode);
      manager.events$.pipe(map(({ type }) => type)).subscribe((type) => others.push(type));
      await manager.modifyState(token, (counter) => counter.increment());
      await manager.deleteState(token.ident);
      await tick();

      expect(thrown).toBe(4);
      expect(others).toStrictEqual(['created', 'deleted']);
      expect(logs.errors).toHaveLength(4);
      expect(manager.stats().openTurns).toBe(0);
    });

    it('a subscriber may use the manager, also for the ident the event is about', async () => {
      const manager = await harness.open({ expiration: 500 });
      const token = new StateToken(newIdent(), CounterState);
      const log = new StateToken(newIdent(), CartState);
      const writes: Promise<unknown>[] = [];
      const subscription = manager.events$.subscribe((event) => {
        if (!event.states.includes('counter')) return;
        writes.push(manager.modifyState(log, (cart) => void cart.notes.push(event.type)));
        if (event.type === 'expired') {
          writes.push(manager.modifyState(token, (counter) => void (counter.count = 50)));
        }
      });
      await manager.modifyState(token, (counter) => counter.increment());
      await harness.advance(100);
      await manager.getState(log);
      for (let round = 0; round < 3; round += 1) {
        await harness.advance(300);
        await manager.getState(log);
      }
      subscription.unsubscribe();
      await Promise.all(writes);
      expect((await manager.getState(log)).notes.slice(0, 3)).toStrictEqual([
        'created',
        'expired',
        'created',
      ]);
      await harness.advance(1_500);
      expect(await manager.count()).toBe(0);
    });
  });
}

import { describe, expect, it } from '@jest/globals';
import { StateToken } from 'nestjs-state';
import { newIdent, type ConformanceHarness } from './harness.js';
import { CartState, CounterState, NestedState } from './states.js';

/** A snapshot as code sees it that ignores the types. */
type Loose<T> = { -readonly [K in keyof T]: T[K] };

const fill = (state: NestedState): void => {
  state.counters.set('a', new CounterState());
  state.tags.add('a');
};

export function readsSuite(harness: ConformanceHarness): void {
  describe('isolated reads', () => {
    it('S3: a read during an open turn returns the committed state at once', async () => {
      const manager = await harness.open();
      const token = new StateToken(newIdent(), CounterState);
      await manager.modifyState(token, (counter) => counter.increment());
      await using turn = await manager.openTurn(token.ident);
      (await turn.state(CounterState)).count = 50;
      const waiting = manager.modifyState(token, (counter) => counter.count);

      expect((await manager.getState(token)).count).toBe(1);
      await turn.commit();
      expect(await waiting).toBe(50);
      expect((await manager.getState(token)).count).toBe(50);
    });

    it('S3: a read inside the own turn sees what is committed, not the draft', async () => {
      const manager = await harness.open();
      const token = new StateToken(newIdent(), CounterState);
      await manager.modifyState(token, async (counter) => {
        counter.increment();
        expect((await manager.getState(token)).count).toBe(0);
      });

      expect((await manager.getState(token)).count).toBe(1);
    });

    it('S3: a snapshot that was read before a commit stays what it was', async () => {
      const manager = await harness.open();
      const token = new StateToken(newIdent(), CartState);
      await manager.modifyState(token, (cart) => void cart.items.push({ name: 'a', amount: 1 }));
      const before = await manager.getState(token);
      await manager.modifyState(token, (cart) => {
        (cart.items[0] as { amount: number }).amount = 2;
        cart.items.push({ name: 'b', amount: 1 });
      });

      expect(before.items).toStrictEqual([{ name: 'a', amount: 1 }]);
    });

    const mutations: [string, (state: Loose<NestedState>) => unknown][] = [
      ['a field', (state) => (state.when = new Date())],
      ['a new field', (state) => Object.assign(state, { extra: 1 })],
      ['deleting a field', (state) => delete (state as Partial<NestedState>).when],
      ['a field of a nested state', (state) => (state.counter.count = 9)],
      ['a method of a nested state', (state) => state.counter.increment()],
      ['a plain object', (state) => (state.part.label = 'x')],
      ['Map.set', (state) => state.counters.set('b', new CounterState())],
      ['Map.delete', (state) => state.counters.delete('a')],
      ['Map.clear', (state) => state.counters.clear()],
      ['an item of a Map', (state) => ((state.counters.get('a') as CounterState).count = 9)],
      ['Set.add', (state) => state.tags.add('new')],
      ['Set.delete', (state) => state.tags.delete('a')],
      ['Set.clear', (state) => state.tags.clear()],
      ['Date.setTime', (state) => state.when.setTime(1)],
      ['Date.setFullYear', (state) => state.when.setFullYear(1999)],
      ['Date.setUTCHours', (state) => state.when.setUTCHours(3)],
    ];

    it.each(mutations)('S3: changing a snapshot throws and changes nothing: %s', async (_, mutate) => {
      const manager = await harness.open();
      const token = new StateToken(newIdent(), NestedState);
      const returned = await manager.modifyState(token, (state) => {
        fill(state);
        return state;
      });
      const expected = new NestedState();
      fill(expected);
      const fresh = await manager.getState(new StateToken(newIdent(), NestedState));
      const stored = await manager.getState(token);

      for (const snapshot of [stored, returned]) {
        expect(() => mutate(snapshot as Loose<NestedState>)).toThrow();
      }
      expect(() => mutate(fresh as Loose<NestedState>)).toThrow();
      expect(await manager.getState(token)).toStrictEqual(expected);
      expect(stored).toStrictEqual(expected);
    });

    it('S3: typed arrays in a snapshot are copies: writing into them changes nothing stored', async () => {
      const manager = await harness.open();
      const token = new StateToken(newIdent(), NestedState);
      await manager.modifyState(token, (state) => {
        state.bytes[0] = 1;
        state.part.bytes[0] = 2;
      });
      const first = (await manager.getState(token)) as NestedState;
      first.bytes[0] = 99;
      first.part.bytes[0] = 99;

      const second = (await manager.getState(token)) as NestedState;
      expect([...second.bytes, ...second.part.bytes]).toStrictEqual([1, 0, 2, 0]);
      const fresh = (await manager.getState(new StateToken(newIdent(), NestedState))) as NestedState;
      fresh.bytes[0] = 99;
      const other = await manager.getState(new StateToken(newIdent(), NestedState));
      expect([...(other as NestedState).bytes]).toStrictEqual([0, 0]);
    });

    it('S3: writes into a typed array during a turn are part of that turn', async () => {
      const manager = await harness.open();
      const token = new StateToken(newIdent(), NestedState);
      await manager.modifyState(token, (state) => void (state.bytes[0] = 1));
      await manager
        .modifyState(token, (state) => {
          state.bytes[0] = 50;
          throw new Error('refused');
        })
        .catch(() => undefined);
      expect([...((await manager.getState(token)) as NestedState).bytes]).toStrictEqual([1, 0]);

      await manager.modifyState(token, (state) => void (state.bytes[1] = 2));
      expect([...((await manager.getState(token)) as NestedState).bytes]).toStrictEqual([1, 2]);
    });

    it('S3: what a caller hands in stays its own: usable as before, and without influence on what is stored', async () => {
      const manager = await harness.open();
      const token = new StateToken(newIdent(), CartState);
      const notes = ['kept'];
      const item = { name: 'kept', amount: 1 };
      await manager.modifyState(token, (cart) => {
        cart.notes = notes;
        cart.items.push(item);
      });
      notes.push('added by its owner');
      item.amount = 99;

      expect(await manager.getState(token)).toMatchObject({
        notes: ['kept'],
        items: [{ name: 'kept', amount: 1 }],
      });
      expect(notes).toStrictEqual(['kept', 'added by its owner']);
    });

    it('S3: setState takes a copy at the call: later changes of the object are not stored', async () => {
      const manager = await harness.open();
      const token = new StateToken(newIdent(), CartState);
      await using turn = await manager.openTurn(token.ident);
      const cart = new CartState();
      cart.notes.push('at the call');
      const stored = manager.setState(token, cart);
      cart.notes.push('later');
      await turn.rollback();
      await stored;
      cart.notes.push('last');

      expect((await manager.getState(token)).notes).toStrictEqual(['at the call']);
      expect(cart.notes).toHaveLength(3);
    });
  });
}

import { describe, expect, it } from '@jest/globals';
import { LockExpiredError, StateError, StateSerializationError, StateToken } from 'nestjs-state';
import { failureOf, newIdent, seededRandom, tick, type ConformanceHarness } from './harness.js';
import { BoxState, CartState, CounterState } from './states.js';

export function transactionsSuite(harness: ConformanceHarness): void {
  describe('transactions', () => {
    const failures: [string, unknown][] = [
      ['an error', new Error('refused')],
      ['a text', 'refused'],
      ['undefined', undefined],
      ['null', null],
    ];
    it.each(failures)(
      'S2: a turn that throws %s stores nothing and rejects with just that',
      async (_, thrown) => {
        const manager = await harness.open();
        const token = new StateToken(newIdent(), CartState);
        await manager.modifyState(token, (cart) => void cart.items.push({ name: 'kept', amount: 1 }));
        const before = await manager.getState(token);

        const atOnce = manager.modifyState(token, (cart) => {
          cart.items.push({ name: 'lost', amount: 1 });
          (cart.items[0] as { amount: number }).amount = 99;
          throw thrown;
        });
        const later = manager.modifyState(token, async (cart) => {
          cart.items.length = 0;
          await tick();
          throw thrown;
        });

        expect(await failureOf(atOnce)).toBe(thrown);
        expect(await failureOf(later)).toBe(thrown);
        expect(await manager.getState(token)).toStrictEqual(before);
      },
    );

    it('S12: a state with a field that is named constructor is one that can be changed', async () => {
      const manager = await harness.open();
      const token = new StateToken(newIdent(), BoxState);
      const words = { constructor: 'a word' };
      await manager.modifyState(token, (box) => {
        box.value = Object.assign(new CounterState(), words);
        Object.assign(box, words);
      });
      await manager.modifyState(token, (box) => {
        (box.value as CounterState).increment();
        box.touched.times += 1;
      });

      const stored = await manager.getState(token);
      expect(stored).toMatchObject({ ...words, value: { ...words, count: 1 }, touched: { times: 1 } });
      expect(stored).toBeInstanceOf(BoxState);
    });

    it('S2: an opened turn that is not committed stores nothing', async () => {
      const manager = await harness.open();
      const token = new StateToken(newIdent(), CounterState);
      {
        await using turn = await manager.openTurn(token.ident);
        (await turn.state(CounterState)).count = 7;
      }
      const rolledBack = await manager.openTurn(token.ident);
      (await rolledBack.state(CounterState)).count = 8;
      await rolledBack.rollback();

      expect((await manager.getState(token)).count).toBe(0);
      expect(await manager.count()).toBe(0);
    });

    it('S2: commit stores everything once; what comes after the end of a turn changes nothing', async () => {
      const manager = await harness.open();
      const token = new StateToken(newIdent(), CounterState);
      const turn = await manager.openTurn(token.ident);
      const counter = await turn.state(CounterState);
      counter.increment();
      await turn.commit();
      await turn.commit();
      await turn.rollback();
      await turn[Symbol.asyncDispose]();

      expect((await manager.getState(token)).count).toBe(1);
      expect(() => counter.increment()).toThrow(TypeError);
      expect(await failureOf(turn.state(CounterState))).toBeInstanceOf(StateError);
      expect((await manager.getState(token)).count).toBe(1);
    });

    it('S2: a turn that was rolled back cannot be committed', async () => {
      const manager = await harness.open();
      const token = new StateToken(newIdent(), CounterState);
      const turn = await manager.openTurn(token.ident);
      (await turn.state(CounterState)).increment();
      await turn.rollback();

      expect(await failureOf(turn.commit())).toMatchObject({ code: 'STATE_TURN_ENDED' });
      expect((await manager.getState(token)).count).toBe(0);
    });

    it('S2: the states of one turn are stored all together or not at all', async () => {
      const manager = await harness.open();
      const token = new StateToken(newIdent(), CounterState);
      const call = manager.modifyState(token, async (counter, turn) => {
        counter.increment();
        (await turn.state(CartState)).total = 5;
        (await turn.state(BoxState)).value = () => 'not storable';
      });

      expect(await failureOf(call)).toBeInstanceOf(StateSerializationError);
      expect((await manager.getState(token)).count).toBe(0);
      expect((await manager.getState(token.withClass(CartState))).total).toBe(0);
      expect(await manager.count()).toBe(0);
    });

    it('S2: the caller sees its own error, not that of a lock it lost meanwhile', async () => {
      const manager = await harness.open({ maxHold: 60 });
      const own = new Error('mine');
      const token = new StateToken(newIdent(), CounterState);
      const call = manager.modifyState(token, async (counter, turn) => {
        counter.increment();
        await harness.advance(150);
        expect(turn.signal.reason).toBeInstanceOf(LockExpiredError);
        throw own;
      });

      expect(await failureOf(call)).toBe(own);
    });

    it('S2, S9: whatever is mixed in, the stored sum is that of the acknowledged increments', async () => {
      const manager = await harness.open({ acquireTimeout: '5s' });
      const random = seededRandom(20_240_607);
      const tokens = Array.from({ length: 3 }, () => new StateToken(newIdent(), CounterState));
      const acknowledged = new Map(tokens.map((token) => [token, 0]));
      let pending = 0;
      const hasPending = (): boolean => pending > 0;

      const increment = async (token: StateToken<CounterState>): Promise<void> => {
        const kind = random();
        const controller = new AbortController();
        if (kind < 0.1) queueMicrotask(() => controller.abort());
        else if (kind < 0.25) setImmediate(() => controller.abort());
        pending += 1;
        try {
          await manager.modifyState(
            token,
            async (counter) => {
              const { count } = counter;
              if (random() < 0.7) await tick();
              counter.count = count + 1;
              if (kind > 0.85) throw new Error('refused');
              if (kind > 0.8) controller.abort();
              if (kind > 0.75 && kind < 0.8) Object.assign(counter, { extra: () => undefined });
            },
            { signal: controller.signal, ...(kind > 0.25 && kind < 0.4 && { acquireTimeout: 5 }) },
          );
          acknowledged.set(token, (acknowledged.get(token) ?? 0) + 1);
        } catch {
          // Not acknowledged.
        } finally {
          pending -= 1;
        }
      };
      const calls = Array.from({ length: 450 }, (_, index) =>
        increment(tokens[index % 3] as StateToken<CounterState>),
      );
      while (hasPending()) await harness.advance(1);
      await Promise.all(calls);

      for (const token of tokens) {
        const sum = acknowledged.get(token) ?? 0;
        expect(sum).toBeGreaterThan(10);
        expect(sum).toBeLessThan(150);
        expect((await manager.getState(token)).count).toBe(sum);
      }
      expect(manager.stats()).toMatchObject({ openTurns: 0, waiting: 0 });
    });
  });
}

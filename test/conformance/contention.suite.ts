import { describe, expect, it } from '@jest/globals';
import { StateToken } from 'nestjs-state';
import {
  failureOf,
  newIdent,
  seededRandom,
  tick,
  untilWaiting,
  type ConformanceHarness,
  type OpenManager,
} from './harness.js';
import { CartState, CounterState } from './states.js';

/** What two managers on one store promise together. Left out where no store can be shared. */
export function contentionSuite(harness: ConformanceHarness): void {
  const { openSecond } = harness;
  if (openSecond === undefined) return;
  const openPair = async (options = {}): Promise<readonly [OpenManager, OpenManager]> => [
    await harness.open(options),
    await openSecond(options),
  ];

  describe('two managers on one store', () => {
    it('S1, S2: count every turn once, and answer in the order of the store', async () => {
      const pair = await openPair();
      const token = new StateToken(newIdent(), CounterState);
      const values = await Promise.all(
        Array.from({ length: 200 }, (_, index) =>
          (pair[index % 2] as OpenManager).modifyState(token, async (counter) => {
            const { count } = counter;
            if (index % 7 === 0) await tick();
            counter.count = count + 1;
            return counter.count;
          }),
        ),
      );

      expect([...values].sort((a, b) => a - b)).toStrictEqual(values.map((_, index) => index + 1));
      for (const side of [0, 1]) {
        const own = values.filter((_, index) => index % 2 === side);
        expect(own).toStrictEqual([...own].sort((a, b) => a - b));
      }
      for (const manager of pair) {
        expect((await manager.getState(token)).count).toBe(200);
        expect(manager.stats()).toMatchObject({ openTurns: 0, waiting: 0 });
      }
    });

    it('S3: read at once what the other one has committed, and nothing before', async () => {
      const [writer, reader] = await openPair();
      const token = new StateToken(newIdent(), CounterState);
      for (let round = 1; round <= 20; round += 1) {
        const turn = await writer.openTurn(token.ident);
        (await turn.state(CounterState)).count = round;
        expect((await reader.getState(token)).count).toBe(round - 1);
        await turn.commit();
        expect((await reader.getState(token)).count).toBe(round);
      }
    });

    it('S4, S5: keep a state alive that either of them uses, and let it go when neither does', async () => {
      const [first, second] = await openPair({ expiration: 600 });
      const token = new StateToken(newIdent(), CounterState);
      await first.modifyState(token, (counter) => counter.increment());
      for (let round = 0; round < 3; round += 1) {
        await harness.advance(200);
        await (round === 1 ? second.getState(token) : second.modifyState(token, (counter) => counter.count));
      }
      await harness.advance(200);
      expect((await first.getState(token)).count).toBe(1);
      await harness.advance(1_200);

      expect(await first.count()).toBe(0);
      expect(await second.count()).toBe(0);
    });

    it('S9: lose nobody when waiters of both leave while the lock goes from one to the other', async () => {
      const pair = await openPair();
      const random = seededRandom(31);
      const token = new StateToken(newIdent(), CounterState);
      let acknowledged = 0;
      await Promise.all(
        Array.from({ length: 160 }, async (_, index) => {
          const controller = new AbortController();
          if (index % 4 === 0) setTimeout(() => controller.abort(), random() * 20);
          try {
            await (pair[index % 2] as OpenManager).modifyState(
              token,
              async (counter) => {
                const { count } = counter;
                if (random() < 0.5) await tick();
                counter.count = count + 1;
                if (index % 9 === 0) throw new Error('refused');
              },
              { signal: controller.signal, ...(index % 8 === 1 && { acquireTimeout: 3 }) },
            );
            acknowledged += 1;
          } catch {
            // Not acknowledged.
          }
        }),
      );

      expect(acknowledged).toBeGreaterThan(20);
      for (const manager of pair) {
        expect((await manager.getState(token)).count).toBe(acknowledged);
        expect(manager.stats()).toMatchObject({ openTurns: 0, waiting: 0 });
        expect(await manager.modifyState(token, (counter) => counter.count)).toBe(acknowledged);
      }
    });

    it('S11: never bring back what the other one has deleted', async () => {
      const [first, second] = await openPair();
      const token = new StateToken(newIdent(), CounterState);
      await first.modifyState(token, async (counter, turn) => {
        counter.count = 5;
        (await turn.state(CartState)).total = 5;
      });
      const turn = await first.openTurn(token.ident);
      (await turn.state(CounterState)).count = 50;
      const deletion = second.deleteState(token.ident);
      await untilWaiting(second, 1);
      await turn.commit();

      expect(await deletion).toBe(true);
      expect(await first.count()).toBe(0);
      expect(await first.modifyState(token, (counter, own) => [counter.count, own.isNew(CartState)])).toStrictEqual([0, true]); // prettier-ignore
    });

    it('S2: store nothing of a turn that fails between turns of the other one', async () => {
      const [first, second] = await openPair();
      const token = new StateToken(newIdent(), CounterState);
      const outcomes = await Promise.allSettled(
        Array.from({ length: 60 }, (_, index) =>
          (index % 2 === 0 ? first : second).modifyState(token, async (counter) => {
            counter.increment();
            if (index % 3 === 0) throw new Error('refused');
            return counter.count;
          }),
        ),
      );
      const values = outcomes.flatMap((outcome) => (outcome.status === 'fulfilled' ? [outcome.value] : []));

      expect([...values].sort((a, b) => a - b)).toStrictEqual(
        Array.from({ length: 40 }, (_, index) => index + 1),
      );
    });

    it('S14: go on alone when the other one shuts down, whoever had the lock', async () => {
      const [first, second] = await openPair();
      const token = new StateToken(newIdent(), CounterState);
      const calls = Array.from({ length: 40 }, (_, index) =>
        (index % 2 === 0 ? first : second)
          .modifyState(token, async (counter) => {
            await tick();
            counter.increment();
          })
          .then(
            () => 1,
            () => 0,
          ),
      );
      await tick();
      await first.onModuleDestroy();
      const results: number[] = await Promise.all(calls);
      const acknowledged = results.reduce((sum, each) => sum + each, 0);

      expect(acknowledged).toBeGreaterThanOrEqual(20);
      expect((await second.getState(token)).count).toBe(acknowledged);
      expect(await failureOf(first.getState(token))).toMatchObject({ name: 'StateManagerClosedError' });
      expect(await second.modifyState(token, (counter) => counter.count)).toBe(acknowledged);
    });
  });
}

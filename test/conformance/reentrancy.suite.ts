import { describe, expect, it } from '@jest/globals';
import { LockTimeoutError, StateToken } from 'nestjs-state';
import { failureOf, Gate, newIdent, tick, type ConformanceHarness } from './harness.js';
import { CartState, CounterState } from './states.js';

export function reentrancySuite(harness: ConformanceHarness): void {
  const open = async () => ({
    manager: await harness.open({ acquireTimeout: 1_000 }),
    token: new StateToken(newIdent(), CounterState),
  });

  describe('re-entrance', () => {
    it('S10: modifyState inside a turn joins it: same draft, committed once with the outer turn', async () => {
      const { manager, token } = await open();
      await manager.modifyState(token, async (outer) => {
        outer.increment();
        await tick();
        const seen = await manager.modifyState(token, async (inner) => {
          expect(inner).toBe(outer);
          inner.increment();
          await tick();
          return manager.modifyState(token, (innermost) => {
            innermost.increment();
            return innermost.count;
          });
        });
        expect(seen).toBe(3);
        expect(manager.stats()).toMatchObject({ openTurns: 1, waiting: 0 });
        expect((await manager.getState(token)).count).toBe(0);
      });

      expect((await manager.getState(token)).count).toBe(3);
    });

    it('S10: setState inside a turn replaces the fields of the draft', async () => {
      const { manager, token } = await open();
      await manager.modifyState(token, async (counter) => {
        counter.increment();
        await manager.setState(token, Object.assign(new CounterState(), { count: 40 }));
        expect(counter.count).toBe(40);
        counter.increment();
        expect((await manager.getState(token)).count).toBe(0);
      });

      expect((await manager.getState(token)).count).toBe(41);
    });

    it('S10: openTurn inside a turn joins it, and its commit waits for the outer one', async () => {
      const { manager, token } = await open();
      await manager.modifyState(token, async (counter) => {
        await using turn = await manager.openTurn(token.ident);
        const same = await turn.state(CounterState);
        expect(same).toBe(counter);
        same.increment();
        await turn.commit();
        expect((await manager.getState(token)).count).toBe(0);
      });

      expect((await manager.getState(token)).count).toBe(1);
    });

    it('S10: a joined call whose signal is aborted already does not run, and leaves the turn as it is', async () => {
      const { manager, token } = await open();
      const reason = new Error('enough');
      await manager.modifyState(token, async (counter) => {
        counter.increment();
        const signal = AbortSignal.abort(reason);
        expect(await failureOf(manager.modifyState(token, () => counter.increment(), { signal }))).toBe(
          reason,
        );
        expect(await failureOf(manager.openTurn(token.ident, { signal }))).toBe(reason);
      });

      expect((await manager.getState(token)).count).toBe(1);
    });

    it('S10: a joined call whose signal aborts while it runs rejects with the reason, and takes the turn with it', async () => {
      const { manager, token } = await open();
      const reason = new Error('enough');
      const controller = new AbortController();
      const failure = await failureOf(
        manager.modifyState(token, async (_, outer) => {
          const joined = manager.modifyState(
            token,
            async (counter, turn) => {
              counter.increment();
              expect(turn.signal).toBe(turn.signal);
              expect(turn.signal.aborted).toBe(false);
              controller.abort(reason);
              expect(turn.signal.reason).toBe(reason);
              expect(outer.signal.aborted).toBe(false);
              await tick();
            },
            { signal: controller.signal },
          );
          expect(await failureOf(joined)).toBe(reason);
        }),
      );

      expect(failure).toBe(reason);
      expect((await manager.getState(token)).count).toBe(0);
      expect(manager.stats()).toMatchObject({ openTurns: 0, waiting: 0 });
    });

    it('S10: many joined calls at the same time all count', async () => {
      const { manager, token } = await open();
      await manager.modifyState(token, () =>
        Promise.all(
          Array.from({ length: 50 }, () =>
            manager.modifyState(token, async (counter) => {
              await tick();
              counter.increment();
            }),
          ),
        ),
      );

      expect((await manager.getState(token)).count).toBe(50);
    });

    it('S10: another state of the ident joins too, through any depth of turns of other idents', async () => {
      const { manager, token } = await open();
      const other = new StateToken(newIdent(), CounterState);
      await manager.modifyState(token, async (counter) => {
        await manager.modifyState(other, async () => {
          await manager.modifyState(token.withClass(CartState), (cart) => void (cart.total = 7));
          await manager.modifyState(token, (same) => same.increment());
        });
        expect(counter.count).toBe(1);
      });

      expect((await manager.getState(token)).count).toBe(1);
      expect((await manager.getState(token.withClass(CartState))).total).toBe(7);
    });

    it('S10: a nested turn of another ident is its own: it stays committed when the outer one fails', async () => {
      const { manager, token } = await open();
      const other = new StateToken(newIdent(), CounterState);
      const call = manager.modifyState(token, async (counter) => {
        counter.increment();
        await manager.modifyState(other, (state) => state.increment());
        throw new Error('refused');
      });
      await failureOf(call);

      expect((await manager.getState(token)).count).toBe(0);
      expect((await manager.getState(other)).count).toBe(1);
    });

    it('S10: a joined call that fails dooms the turn, also when its error is caught', async () => {
      const { manager, token } = await open();
      const error = new Error('half done');
      const call = manager.modifyState(token, async (counter) => {
        counter.increment();
        const inner = manager.modifyState(token, async (same) => {
          same.increment();
          await tick();
          throw error;
        });
        expect(await failureOf(inner)).toBe(error);
        return 'looks fine';
      });

      expect(await failureOf(call)).toBe(error);
      expect((await manager.getState(token)).count).toBe(0);
      expect(manager.stats().openTurns).toBe(0);
    });

    it('S10: a joined turn that is not committed dooms the turn', async () => {
      const { manager, token } = await open();
      const call = manager.modifyState(token, async (counter) => {
        counter.increment();
        await using turn = await manager.openTurn(token.ident);
        expect(turn.ident).toBe(token.ident);
      });

      expect(await failureOf(call)).toMatchObject({ code: 'STATE_TURN_ENDED' });
      expect((await manager.getState(token)).count).toBe(0);
    });

    it('S10: work that outlives its turn is on its own afterwards', async () => {
      const { manager, token } = await open();
      const gate = new Gate();
      let detached: Promise<number> | undefined;
      await manager.modifyState(token, (counter) => {
        counter.increment();
        detached = gate.opened.then(() =>
          manager.modifyState(token, async (state) => {
            await tick();
            state.increment();
            return state.count;
          }),
        );
      });
      await using next = await manager.openTurn(token.ident);
      gate.open();
      await tick();
      expect(manager.stats().waiting).toBe(1);
      await next.rollback();

      expect(await detached).toBe(2);
      expect((await manager.getState(token)).count).toBe(2);
    });

    it('S2, S10: a joined call that is still running when its turn fails is told that nothing of it is stored', async () => {
      const { manager, token } = await open();
      const gate = new Gate();
      let late: Promise<unknown> | undefined;
      const outer = manager.modifyState(token, async () => {
        late = failureOf(
          manager.modifyState(token, async (same) => {
            same.count = 5;
            await gate.opened;
          }),
        );
        await tick();
        throw new Error('on purpose');
      });

      expect(await failureOf(outer)).toMatchObject({ message: 'on purpose' });
      gate.open();
      expect(await late).toMatchObject({ code: 'STATE_TURN_ENDED' });
      expect((await manager.getState(token)).count).toBe(0);
    });

    it('S10: a joined call that is still running when its turn ends stores nothing late', async () => {
      const { manager, token } = await open();
      const gate = new Gate();
      let late: Promise<unknown> | undefined;
      await manager.modifyState(token, (counter) => {
        counter.increment();
        late = failureOf(
          manager.modifyState(token, async (same) => {
            await gate.opened;
            same.count = 1_000;
          }),
        );
      });
      gate.open();

      expect(await late).toBeInstanceOf(TypeError);
      expect((await manager.getState(token)).count).toBe(1);
      await manager.modifyState(token, (counter) => counter.increment());
      expect((await manager.getState(token)).count).toBe(2);
    });

    it('S10: turns that are only started next to each other do not join', async () => {
      const { manager, token } = await open();
      const gate = new Gate();
      const first = manager.modifyState(token, async (counter) => {
        await gate.opened;
        counter.increment();
        throw new Error('refused');
      });
      const second = manager.modifyState(token, (counter) => counter.increment());
      gate.open();
      await failureOf(first);
      await second;

      expect((await manager.getState(token)).count).toBe(1);
    });

    it('S9, S10: two callers that lock two idents crosswise are freed by acquireTimeout', async () => {
      const { manager, token } = await open();
      const other = new StateToken(newIdent(), CounterState);
      const cross = (first: StateToken<CounterState>, second: StateToken<CounterState>, timeout: number) =>
        manager.modifyState(first, async (one) => {
          await tick();
          one.increment();
          await manager.modifyState(second, (two) => two.increment(), { acquireTimeout: timeout });
        });
      const impatient = failureOf(cross(token, other, 50));
      const patient = cross(other, token, 5_000);
      await tick();
      await harness.advance(200);

      expect(await impatient).toBeInstanceOf(LockTimeoutError);
      await patient;
      expect((await manager.getState(token)).count).toBe(1);
      expect((await manager.getState(other)).count).toBe(1);
    });
  });
}

import { describe, expect, it } from '@jest/globals';
import { StateContext, StateError, StateToken, type StateTurn } from 'nestjs-state';
import { failureOf, Gate, newIdent, tick, type ConformanceHarness } from './harness.js';
import { CartState, CounterState } from './states.js';

class NoState {}

const NONE = 'STATE_NO_CURRENT_STATE';

function codeOf(use: () => unknown): string | undefined {
  try {
    use();
  } catch (error) {
    return (error as StateError).code;
  }
  return undefined;
}

async function useInService(): Promise<void> {
  StateContext.current(CounterState).increment();
  await tick();
  StateContext.current(CounterState).increment();
  StateContext.current(CartState).total += 1;
}

async function noteInService(expected: string): Promise<void> {
  await tick();
  expect(StateContext.ident()).toBe(expected);
  StateContext.current(CartState).notes.push(expected);
}

export function contextSuite(harness: ConformanceHarness): void {
  describe('the current state', () => {
    it('is the draft of the running turn, at once and after each await', async () => {
      const manager = await harness.open();
      const token = new StateToken(newIdent(), CounterState);
      await manager.modifyState(token, async (counter) => {
        expect(StateContext.current(CounterState)).toBe(counter);
        expect(StateContext.ident()).toBe(token.ident);
        await useInService();
        await tick();
        expect(StateContext.current(CounterState)).toBe(counter);
        await useInService();
      });

      expect((await manager.getState(token)).count).toBe(4);
      expect((await manager.getState(token.withClass(CartState))).total).toBe(2);
    });

    it('is that of the own call, however many run at once', async () => {
      const manager = await harness.open();
      const idents = Array.from({ length: 100 }, newIdent);
      await Promise.all(
        idents.map((ident) =>
          manager.modifyState(new StateToken(ident, CounterState), async (counter) => {
            await tick();
            expect(StateContext.current(CounterState)).toBe(counter);
            await noteInService(ident);
          }),
        ),
      );
      for (const ident of idents)
        expect((await manager.getState(new StateToken(ident, CartState))).notes).toStrictEqual([ident]);
    });

    it('is, where several turns are open, of the innermost that uses the class, else of the innermost', async () => {
      const manager = await harness.open();
      const outer = new StateToken(newIdent(), CounterState);
      const inner = new StateToken(newIdent(), CartState);
      await manager.modifyState(outer, async (counter) => {
        await manager.modifyState(inner, async (cart) => {
          await tick();
          expect(StateContext.current(CounterState)).toBe(counter);
          expect(StateContext.current(CartState)).toBe(cart);
          expect(StateContext.ident()).toBe(inner.ident);
          await manager.modifyState(inner.withClass(CounterState), async (own) => {
            await tick();
            expect(own).not.toBe(counter);
            expect(StateContext.current(CounterState)).toBe(own);
            await manager.modifyState(outer, async (joined) => {
              await tick();
              expect(joined).toBe(counter);
              expect(StateContext.current(CounterState)).toBe(counter);
              expect(StateContext.ident()).toBe(outer.ident);
            });
            expect(StateContext.current(CounterState)).toBe(own);
          });
        });
        expect(StateContext.current(CounterState)).toBe(counter);
        // Of two turns that do not use it: the innermost is the only one that is still running.
        StateContext.current(CartState).total = 5;
      });

      expect((await manager.getState(outer.withClass(CartState))).total).toBe(5);
    });

    it('is none outside of a turn, in one of openTurn, and after it: an error that says so', async () => {
      const manager = await harness.open();
      const token = new StateToken(newIdent(), CounterState);
      expect(() => StateContext.current(CounterState)).toThrow(
        /^counter is needed .* no turn is running here\. Ask/,
      );
      expect(() => StateContext.current(CounterState)).toThrow(StateError);
      expect(codeOf(() => StateContext.ident())).toBe(NONE);
      await using turn = await manager.openTurn(newIdent());
      expect(codeOf(() => StateContext.current(CounterState))).toBe(NONE);
      await turn.rollback();

      const ended = new Gate();
      const background: Promise<unknown>[] = [];
      await manager.modifyState(token, () => {
        background.push(ended.opened.then(() => StateContext.current(CounterState)));
      });
      ended.open();
      expect(((await failureOf(background[0] as Promise<unknown>)) as StateError).message).toMatch(
        /has ended/,
      );

      let kept: StateTurn | undefined;
      await manager.modifyState(token, async (_, own) => {
        kept = own;
        await own.rollback();
        expect(codeOf(() => StateContext.current(CounterState))).toBe(NONE);
      });
      expect(kept).toBeDefined();
    });

    it('is refused for what is no state class, and when the lock is lost', async () => {
      const manager = await harness.open({ maxHold: 40 });
      expect(codeOf(() => StateContext.current(NoState))).toBe('STATE_INVALID_TOKEN');
      const gate = new Gate();
      const begun = new Gate();
      const call = failureOf(
        manager.modifyState(new StateToken(newIdent(), CounterState), async () => {
          begun.open();
          await gate.opened;
          StateContext.current(CounterState);
        }),
      );
      await begun.opened;
      await harness.advance(80);
      gate.open();
      expect(await call).toMatchObject({ code: 'STATE_LOCK_EXPIRED' });
    });
  });
}

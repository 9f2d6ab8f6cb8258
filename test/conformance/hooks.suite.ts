import { AsyncLocalStorage } from 'node:async_hooks';
import { describe, expect, it } from '@jest/globals';
import type { Type } from '@nestjs/common';
import {
  StateContext,
  StateManagerClosedError,
  StateToken,
  type Immutable,
  type StateHookEvent,
  type StateHookReason,
  type StateManager,
} from 'nestjs-state';
import type { LockingStateManager } from '../../lib/managers/locking-state.manager.js';
import { RecordedLogs } from '../support/manager-logs.js';
import { failureOf, Gate, newIdent, tick, type ConformanceHarness } from './harness.js';
import { CartState, CounterState, NestedState } from './states.js';

/** Long enough for a few calls in a row, on the real clock of a busy machine too. */
const WINDOW_MS = 450;

const ALL: readonly StateHookReason[] = ['created', 'expired', 'deleted', 'evicted', 'lock-lost'];

/** What `@OnState()` does for a method. */
function onState<T>(
  manager: StateManager,
  cls: Type<T>,
  reasons: readonly StateHookReason[],
  call: (state: Immutable<T>, event: StateHookEvent<T>) => unknown,
  name = 'Hooks.method',
): void {
  for (const reason of reasons) {
    (manager as LockingStateManager).addHook({
      cls,
      reason,
      name,
      call: call as (state: unknown, event: StateHookEvent<unknown>) => unknown,
    });
  }
}

const boom = (kind: string) => new Error(`${kind} of the hook`);
/** Cannot even be asked whether it is a promise. */
const thenable = new Proxy(
  {},
  {
    get() {
      throw boom('proxy');
    },
  },
);

export function hooksSuite(harness: ConformanceHarness): void {
  /** Lets time pass until `seen` has so many entries, and then as much as it takes to see one too many. */
  const untilSeen = async (seen: readonly unknown[], count: number): Promise<void> => {
    for (let round = 0; round < 400 && seen.length < count; round += 1) await harness.advance(5);
    await harness.advance(20);
    expect(seen).toHaveLength(count);
  };

  describe('hooks', () => {
    it('are called once for each event, with the last committed state and its token', async () => {
      const manager = await harness.open({ expiration: WINDOW_MS });
      const seen: [StateHookReason, number, string][] = [];
      onState(manager, CounterState, ALL, (counter, { reason, token }) => {
        expect(counter).toBeInstanceOf(CounterState);
        expect(Object.isFrozen(counter)).toBe(true);
        expect(token).toBeInstanceOf(StateToken);
        expect(token.cls).toBe(CounterState);
        seen.push([reason, counter.count, token.ident]);
      });
      const [a, b] = [newIdent(), newIdent()];
      const [first, second] = [new StateToken(a, CounterState), new StateToken(b, CounterState)];
      await failureOf(
        manager.modifyState(first, (counter) => {
          counter.increment();
          throw new Error('refused');
        }),
      );
      await manager.modifyState(first, (counter) => counter.increment());
      await manager.modifyState(first, (counter) => counter.increment());
      await manager.modifyState(first.withClass(CartState), (cart) => void (cart.total = 1));
      await manager.setState(second, Object.assign(new CounterState(), { count: 7 }));
      await manager.deleteState(b);
      await untilSeen(seen, 4);

      expect(seen).toStrictEqual([
        ['created', 1, a],
        ['created', 7, b],
        ['deleted', 7, b],
        ['expired', 2, a],
      ]);
    });

    it('are called for what a turn deletes and makes anew, in that order', async () => {
      const manager = await harness.open();
      const token = new StateToken(newIdent(), CounterState);
      const seen: [StateHookReason, number][] = [];
      onState(manager, CounterState, ALL, ({ count }, { reason }) => void seen.push([reason, count]));
      await manager.modifyState(token, (counter) => counter.increment());
      await manager.modifyState(token, async (counter) => {
        counter.increment();
        await manager.deleteState(token.ident);
        await manager.modifyState(token, (fresh) => void (fresh.count = 30));
      });
      await manager.deleteState(token.ident);
      await manager.deleteState(token.ident);
      await untilSeen(seen, 4);

      expect(seen).toStrictEqual([
        ['created', 1],
        ['deleted', 1],
        ['created', 30],
        ['deleted', 30],
      ]);
    });

    it('are called for an expiry that nobody noticed in time, before what is made anew', async () => {
      const manager = await harness.open({ expiration: 100 });
      const token = new StateToken(newIdent(), CounterState);
      const seen: [StateHookReason, number][] = [];
      onState(manager, CounterState, ALL, ({ count }, { reason }) => void seen.push([reason, count]));
      await manager.modifyState(token, (counter) => void (counter.count = 5));
      await tick();
      await harness.advance(harness.clock === 'fake' ? 0 : 20);
      harness.block(170);
      await manager.modifyState(token, (counter) => void counter.increment());
      await untilSeen(seen, 4);

      expect(seen).toStrictEqual([
        ['created', 5],
        ['expired', 5],
        ['created', 1],
        ['expired', 1],
      ]);
    });

    it('are told what was read last too: a read begins a new window', async () => {
      const manager = await harness.open({ expiration: WINDOW_MS });
      const token = new StateToken(newIdent(), NestedState);
      const seen: Immutable<NestedState>[] = [];
      const again: Immutable<NestedState>[] = [];
      onState(manager, NestedState, ['expired'], (state) => void seen.push(state));
      onState(manager, NestedState, ['expired'], (state) => void again.push(state));
      await manager.modifyState(token, (state) => {
        state.counters.set('a', new CounterState());
        state.bytes.set([3, 4]);
        state.tags.add('x');
      });
      const stored = await manager.getState(token);
      for (let round = 0; round < 4; round += 1) {
        await harness.advance(WINDOW_MS / 3);
        await manager.getState(token);
      }
      expect(seen).toHaveLength(0);
      await untilSeen(seen, 1);

      expect(seen[0]).toStrictEqual(stored);
      expect(again).toStrictEqual(seen);
      expect(again[0]?.bytes).not.toBe(seen[0]?.bytes);
    });

    it('are called with what a turn began from when its lock is lost', async () => {
      const manager = await harness.open({ maxHold: 50 });
      const token = new StateToken(newIdent(), CounterState);
      const seen: [string, number, string][] = [];
      onState(
        manager,
        CounterState,
        ['lock-lost'],
        (counter, { reason, token: { ident } }) => void seen.push([reason, counter.count, ident]),
      );
      onState(
        manager,
        CartState,
        ['lock-lost'],
        (cart, { reason, token: { ident } }) => void seen.push([reason, cart.total, ident]),
      );
      await manager.modifyState(token, (counter) => void (counter.count = 3));
      const gate = new Gate();
      const call = failureOf(
        manager.modifyState(token, async (counter) => {
          counter.count = 100;
          await manager.modifyState(token.withClass(CartState), (cart) => void (cart.total = 9));
          await gate.opened;
        }),
      );
      await untilSeen(seen, 2);
      gate.open();
      expect(await call).toMatchObject({ code: 'STATE_LOCK_EXPIRED' });
      await harness.advance(10);

      expect(seen).toStrictEqual([
        ['lock-lost', 3, token.ident],
        ['lock-lost', 0, token.ident],
      ]);
    });

    if (harness.mode === 'memory') {
      it('are called for what is evicted', async () => {
        const manager = await harness.open({ memory: { maxStates: 2 } });
        const seen: number[] = [];
        onState(manager, CounterState, ['evicted'], ({ count }) => void seen.push(count));
        for (let count = 1; count <= 5; count += 1) {
          await manager.modifyState(
            new StateToken(newIdent(), CounterState),
            (counter) => void (counter.count = count),
          );
        }
        await untilSeen(seen, 3);

        expect(seen).toStrictEqual([1, 2, 3]);
      });
    }

    it('that throw, reject, never end or are no functions of ours disturb nobody, and are logged once, by name', async () => {
      const logs = RecordedLogs.start();
      const manager = await harness.open({ expiration: 100, drainTimeout: 50 });
      const reasons = ['created', 'expired'] as const;
      const seen: string[] = [];
      onState(
        manager,
        CounterState,
        reasons,
        () => {
          throw boom('throw');
        },
        'Bad.throws',
      );
      onState(manager, CounterState, reasons, () => Promise.reject(boom('rejection')), 'Bad.rejects');
      onState(manager, CounterState, reasons, () => new Promise(() => undefined), 'Bad.neverEnds');
      onState(manager, CounterState, reasons, () => thenable, 'Bad.answers');
      onState(manager, CounterState, reasons, (_, { reason }) => void seen.push(reason), 'Good.method');
      const idents = Array.from({ length: 20 }, newIdent);
      await Promise.all(
        idents.map((ident) =>
          manager.modifyState(new StateToken(ident, CounterState), (counter) => counter.increment()),
        ),
      );
      await untilSeen(seen, 40);

      expect(seen.filter((reason) => reason === 'expired')).toHaveLength(20);
      for (const name of ['Bad.throws', 'Bad.rejects', 'Bad.answers'])
        expect(logs.errors.filter((line) => line.includes(name))).toHaveLength(40);
      expect(logs.errors).toHaveLength(120);
      expect(logs.errors.join('\n')).toContain('rejection of the hook');
      for (const ident of idents) expect(logs.lines.join('\n')).not.toContain(ident);
      expect(manager.stats()).toMatchObject({ openTurns: 0, waiting: 0 });
      expect(await manager.count()).toBe(0);
    });

    it('run outside of the turn and of the async context that caused them, and may use the manager', async () => {
      const manager = await harness.open({ expiration: WINDOW_MS });
      const logs = RecordedLogs.start();
      const storage = new AsyncLocalStorage<string>();
      const token = new StateToken(newIdent(), CounterState);
      const audit = new StateToken(newIdent(), CartState);
      const seen: unknown[] = [];
      onState(
        manager,
        CounterState,
        ['created', 'expired', 'deleted'],
        async (counter, { reason, token: { ident } }) => {
          expect(storage.getStore()).toBeUndefined();
          expect(() => StateContext.ident()).toThrow();
          await manager.modifyState(audit, (cart) => void cart.notes.push(reason));
          // Of the very ident: this waits for the turn of the writer if that is still open, and joins nothing.
          if (reason === 'created')
            await manager.modifyState(new StateToken(ident, CounterState), (own) => void (own.count += 10));
          seen.push(`${reason} ${counter.count}`);
        },
      );
      await storage.run('the writer', () =>
        manager.modifyState(token, async (counter) => {
          counter.increment();
          await tick();
        }),
      );
      await untilSeen(seen, 2);

      expect(seen).toStrictEqual(['created 1', 'expired 11']);
      expect(logs.errors).toStrictEqual([]);
    });

    it('of one ident begin in the order of its events, however many there are', async () => {
      const manager = await harness.open();
      const expected = new Map<string, string[]>();
      const seen = new Map<string, string[]>();
      const all: unknown[] = [];
      onState(
        manager,
        CounterState,
        ['created', 'deleted'],
        async ({ count }, { reason, token: { ident } }) => {
          seen.set(ident, [...(seen.get(ident) ?? []), `${reason} ${count}`]);
          all.push(reason);
          await tick();
        },
      );
      await Promise.all(
        Array.from({ length: 10 }, async () => {
          const token = new StateToken(newIdent(), CounterState);
          const events: string[] = [];
          expected.set(token.ident, events);
          for (let count = 1; count <= 10; count += 1) {
            await manager.modifyState(token, (counter) => void (counter.count = count));
            await manager.deleteState(token.ident);
            events.push(`created ${count}`, `deleted ${count}`);
          }
        }),
      );
      await untilSeen(all, 200);

      expect(seen).toStrictEqual(expected);
    });

    it('leave nothing behind', async () => {
      const manager = await harness.open({ expiration: 80 });
      const seen: unknown[] = [];
      onState(manager, CounterState, ['created', 'expired'], async (counter) => void seen.push(counter));
      await Promise.all(
        Array.from({ length: 100 }, () =>
          manager.modifyState(new StateToken(newIdent(), CounterState), (counter) => counter.increment()),
        ),
      );
      await untilSeen(seen, 200);
      const { openTurns, waiting, states = 0 } = manager.stats();

      expect({ openTurns, waiting, states, idents: await manager.count() }).toStrictEqual({
        openTurns: 0,
        waiting: 0,
        states: 0,
        idents: 0,
      });
    });

    it('that are due at shutdown are called and waited for, and can still read', async () => {
      const manager = await harness.open({ drainTimeout: 2_000 });
      const token = new StateToken(newIdent(), CounterState);
      const seen: unknown[] = [];
      const gate = new Gate();
      onState(manager, CounterState, ['created', 'deleted'], async (_, { reason }) => {
        await gate.opened;
        seen.push([reason, (await manager.getState(token)).count]);
        seen.push(await failureOf(manager.modifyState(token, () => 1)));
      });
      await manager.modifyState(token, (counter) => void (counter.count = 4));
      await manager.deleteState(token.ident);
      let isClosed = false;
      const closing = manager.onModuleDestroy().then(() => (isClosed = true));
      await harness.advance(30);
      expect(isClosed).toBe(false);
      gate.open();
      await harness.advance(30);
      await closing;

      expect(seen.filter((entry) => Array.isArray(entry))).toStrictEqual([
        ['created', 0],
        ['deleted', 0],
      ]);
      expect(seen.filter((entry) => entry instanceof StateManagerClosedError)).toHaveLength(2);
    });

    it('that do not end hold shutdown up for drainTimeout, and no longer', async () => {
      const logs = RecordedLogs.start();
      const manager = await harness.open({ drainTimeout: 60 });
      let begun = 0;
      onState(manager, CounterState, ['created'], () => {
        begun += 1;
        return new Promise(() => undefined);
      });
      await manager.modifyState(new StateToken(newIdent(), CounterState), (counter) => counter.increment());
      let isClosed = false;
      const closing = manager.onModuleDestroy().then(() => (isClosed = true));
      await harness.advance(30);
      expect([begun, isClosed]).toStrictEqual([1, false]);
      await harness.advance(60);
      await closing;

      expect(logs.warnings.filter((line) => line.includes('1 calls of hooks'))).toHaveLength(1);
    });
  });
}

import { describe, expect, it } from '@jest/globals';
import {
  InvalidStateTokenError,
  LockExpiredError,
  LockTimeoutError,
  StateContext,
  StateError,
  StateManagerClosedError,
  StateToken,
  type StateChange,
  type StateEvent,
  type StateModuleOptions,
} from 'nestjs-state';
import type { LockingStateManager } from '../../lib/managers/locking-state.manager.js';
import { STATE_HOOK_REASONS } from '../../lib/managers/state-hooks.js';
import {
  failureOf,
  Gate,
  newIdent,
  seededRandom,
  tick,
  until,
  untilWaiting,
  type ConformanceHarness,
  type OpenManager,
} from './harness.js';
import { BoxState, CartState, CounterState } from './states.js';

const expectInUse = (error: unknown): void => {
  expect(error).toBeInstanceOf(StateError);
  expect((error as StateError).code).toBe('STATE_IDENT_IN_USE');
};

const countOf = async (manager: OpenManager, token: StateToken<CounterState>): Promise<number> =>
  (await manager.getState(token)).count;

const expectIdle = async (manager: OpenManager): Promise<void> => {
  await tick();
  expect(manager.stats()).toMatchObject({ openTurns: 0, waiting: 0 });
};

/** An ident that is locked before that of `token`. */
const before = ({ ident }: StateToken<unknown>) => new StateToken(`a-${ident}`, CounterState);
const behind = ({ ident }: StateToken<unknown>) => new StateToken(`z-${ident}`, CounterState);

/** What every manager promises of `renameState`. */
export function renameSuite(harness: ConformanceHarness): void {
  const openCounted = async (options: StateModuleOptions = {}) => {
    const manager = await harness.open(options);
    const token = new StateToken(newIdent(), CounterState);
    await manager.modifyState(token, (counter) => void (counter.count = 7));
    await manager.modifyState(token.withClass(CartState), (cart) => void (cart.total = 5));
    const events: StateEvent[] = [];
    manager.events$.subscribe((event) => events.push(event));
    return { manager, token, heir: new StateToken(`y-${newIdent()}`, CounterState), events };
  };

  describe('rename', () => {
    it('moves every state of an ident, tells whether there was one, and leaves the old ident fresh', async () => {
      const { manager, token, heir } = await openCounted();

      expect(await manager.renameState(token.ident, heir.ident)).toBe(true);
      expect(await countOf(manager, heir)).toBe(7);
      expect((await manager.getState(heir.withClass(CartState))).total).toBe(5);
      expect(await countOf(manager, token)).toBe(0);
      expect((await manager.getState(token.withClass(CartState))).total).toBe(0);
      expect(await manager.count()).toBe(1);
      expect(await manager.renameState(token.ident, newIdent())).toBe(false);
      expect(await manager.count()).toBe(1);
      await expectIdle(manager);
    });

    it('moves them in either order of the locks, there and back again', async () => {
      const { manager, token } = await openCounted();
      for (const heir of [before(token), behind(token)]) {
        expect(await manager.renameState(token.ident, heir.ident)).toBe(true);
        expect(await manager.modifyState(heir, (counter) => (counter.count += 1))).toBeGreaterThan(7);
        expect(await manager.renameState(heir.ident, token.ident)).toBe(true);
      }
      expect(await countOf(manager, token)).toBe(9);
      expect(await manager.count()).toBe(1);
    });

    it('moves whatever can be stored', async () => {
      const { manager, token, heir } = await openCounted();
      const value = { bytes: new Uint8Array([1, 2]), map: new Map([['a', new Date(5)]]), big: 5n };
      await manager.modifyState(token.withClass(BoxState), (box) => void (box.value = value));
      await manager.renameState(token.ident, heir.ident);

      expect((await manager.getState(heir.withClass(BoxState))).value).toStrictEqual(value);
    });

    it('an ident that has states is left alone, and so is the one that was to be moved', async () => {
      const { manager, token, heir, events } = await openCounted();
      for (const taken of [heir, before(token), behind(token)]) {
        await manager.modifyState(taken, (counter) => void (counter.count = 3));
        events.length = 0;
        expectInUse(await failureOf(manager.renameState(token.ident, taken.ident)));
        expect([await countOf(manager, token), await countOf(manager, taken)]).toStrictEqual([7, 3]);
        expect(events).toStrictEqual([]);
      }
      expectInUse(await failureOf(manager.renameState(token.ident, token.ident)));
      expect(await countOf(manager, token)).toBe(7);
      await expectIdle(manager);
    });

    it('an ident that is none is refused', async () => {
      const { manager, token } = await openCounted();
      for (const ident of ['', 'a\nb', 'x'.repeat(257), 5, undefined, ['a']]) {
        for (const [from, to] of [
          [token.ident, ident],
          [ident, token.ident],
        ])
          expect(await failureOf(manager.renameState(from as string, to as string))).toBeInstanceOf(
            InvalidStateTokenError,
          );
      }
      expect(await countOf(manager, token)).toBe(7);
      await expectIdle(manager);
    });

    it('S1: takes its turn over both idents, and keeps the order of who waits', async () => {
      const { manager, token, heir } = await openCounted();
      const turn = await manager.openTurn(token.ident);
      const order: string[] = [];
      const renamed = manager.renameState(token.ident, heir.ident).then(() => order.push('renamed'));
      await untilWaiting(manager, 1);
      const after = manager.modifyState(token, (counter) => {
        order.push('after');
        return { count: counter.count };
      });
      await untilWaiting(manager, 2);
      (await turn.state(CounterState)).count = 50;
      await turn.commit();

      expect(await after).toStrictEqual({ count: 0 });
      await renamed;
      expect(order).toContain('renamed');
      expect(await countOf(manager, heir)).toBe(50);
      await expectIdle(manager);
    });

    it('S9: is bounded as every wait: nothing is moved, and nothing stays locked', async () => {
      const { manager, token, heir } = await openCounted({ acquireTimeout: 50 });
      for (const held of [token, heir]) {
        const turn = await manager.openTurn(held.ident);
        const failure = failureOf(manager.renameState(token.ident, heir.ident));
        await untilWaiting(manager, 1);
        await harness.advance(100);
        expect(await failure).toBeInstanceOf(LockTimeoutError);
        await turn.rollback();
      }
      expect([await countOf(manager, token), await countOf(manager, heir)]).toStrictEqual([7, 0]);
      await expectIdle(manager);
    });

    it('S11: what a turn loaded before it lost its lock can be committed under neither ident', async () => {
      const { manager, token, heir } = await openCounted({ maxHold: 1_000 });
      const turn = await manager.openTurn(token.ident);
      const counter = await turn.state(CounterState);
      await harness.advance(2_000);
      await manager.renameState(token.ident, heir.ident);
      counter.count = 50;

      expect(await failureOf(turn.commit())).toBeInstanceOf(LockExpiredError);
      expect([await countOf(manager, token), await countOf(manager, heir)]).toStrictEqual([0, 7]);
      expect(await manager.count()).toBe(1);
    });

    it('S8: when a lock is lost after it, in the same turn, the hook hears what the turn began from', async () => {
      const { manager, token, heir } = await openCounted({ maxHold: 1_000 });
      const lost: unknown[] = [];
      (manager as OpenManager & LockingStateManager).addHook({
        cls: CounterState,
        reason: 'lock-lost',
        name: 'Hooks.method',
        call: (state, event) => lost.push([(state as CounterState).count, event.token.ident]),
      });
      const call = manager.modifyState(token, async (counter) => {
        counter.count = 50;
        await manager.renameState(token.ident, heir.ident);
        await harness.advance(2_000);
      });
      expect(await failureOf(call)).toBeInstanceOf(LockExpiredError);
      await harness.advance(20);

      expect(lost[0]).toStrictEqual([7, token.ident]);
      expect([await countOf(manager, token), await countOf(manager, heir)]).toStrictEqual([7, 0]);
      await expectIdle(manager);
    });

    it('S4, S6: the window of the moved states begins anew, and nothing is left when it is over', async () => {
      const { manager, token, heir } = await openCounted({ expiration: 2_000 });
      await harness.advance(1_200);
      await manager.renameState(token.ident, heir.ident);
      await harness.advance(1_200);
      expect(await manager.count()).toBe(1);
      await harness.advance(1_500);

      expect(await manager.count()).toBe(0);
      expect([await countOf(manager, token), await countOf(manager, heir)]).toStrictEqual([0, 0]);
    });

    it('S10: inside a turn of the old ident it joins: what the turn changes is stored under the new one, with it', async () => {
      const { manager, token, heir } = await openCounted();
      await manager.modifyState(token, async (counter) => {
        counter.count = 20;
        expect(await manager.renameState(token.ident, heir.ident)).toBe(true);
        counter.count += 1;
        await manager.modifyState(heir, (same) => {
          expect(same).toBe(counter);
          same.count += 1;
        });
        const cart = await manager.modifyState(heir.withClass(CartState), (moved) => {
          moved.total += 1;
          return moved.total;
        });
        expect(cart).toBe(6);
        expect(StateContext.current(CounterState)).toBe(counter);
        expect(StateContext.ident()).toBe(heir.ident);
        expect([await countOf(manager, token), await countOf(manager, heir)]).toStrictEqual([7, 0]);
      });

      expect([await countOf(manager, token), await countOf(manager, heir)]).toStrictEqual([0, 22]);
      expect((await manager.getState(heir.withClass(CartState))).total).toBe(6);
      expect(await manager.count()).toBe(1);
      await expectIdle(manager);
    });

    it('S10: inside a turn that fails it is undone with it', async () => {
      const { manager, token, heir, events } = await openCounted();
      const call = manager.modifyState(token, async (counter) => {
        counter.count = 20;
        await manager.renameState(token.ident, heir.ident);
        throw new Error('refused');
      });
      expect(await failureOf(call)).toMatchObject({ message: 'refused' });

      expect([await countOf(manager, token), await countOf(manager, heir)]).toStrictEqual([7, 0]);
      expect(events).toStrictEqual([]);
      await expectIdle(manager);
    });

    it('S10: a state that is not stored yet goes along with the turn that made it', async () => {
      const manager = await harness.open();
      const token = new StateToken(newIdent(), CounterState);
      const heir = behind(token);
      await manager.modifyState(token, async (counter) => {
        counter.count = 3;
        expect(await manager.renameState(token.ident, heir.ident)).toBe(false);
      });

      expect([await countOf(manager, token), await countOf(manager, heir)]).toStrictEqual([0, 3]);
    });

    it('S10: what is done to the old ident afterwards in the same turn begins afresh', async () => {
      const { manager, token, heir } = await openCounted();
      await manager.modifyState(token, async () => {
        await manager.renameState(token.ident, heir.ident);
        await manager.modifyState(token, (fresh) => {
          expect(fresh.count).toBe(0);
          fresh.count = 1;
        });
      });

      expect([await countOf(manager, token), await countOf(manager, heir)]).toStrictEqual([1, 7]);
      expect((await manager.getState(token.withClass(CartState))).total).toBe(0);
    });

    it('S10: twice in a turn, or followed by a delete, the last word counts', async () => {
      const { manager, token, heir } = await openCounted();
      const first = new StateToken(`${token.ident}-1`, CounterState);
      const second = new StateToken(`${token.ident}-2`, CounterState);
      await manager.modifyState(token, async (counter) => {
        await manager.renameState(token.ident, first.ident);
        counter.count = 8;
        expect(await manager.renameState(first.ident, second.ident)).toBe(true);
        counter.count += 1;
      });
      expect(await Promise.all([token, first, second].map((each) => countOf(manager, each)))).toStrictEqual([
        0, 0, 9,
      ]);
      await manager.modifyState(second, async (counter) => {
        const third = `${second.ident}-3`;
        await manager.renameState(second.ident, third);
        counter.count = 50;
        expect(await manager.deleteState(third)).toBe(true);
      });
      expect(await manager.count()).toBe(0);
      expect(await countOf(manager, heir)).toBe(0);
      await expectIdle(manager);
    });

    it('S10: in an open turn it keeps the order of locks, and refuses an ident with states; the turn goes on', async () => {
      const { manager, token } = await openCounted();
      const taken = behind(token);
      await manager.modifyState(taken, (counter) => void (counter.count = 3));
      await manager.modifyState(token, async (counter) => {
        counter.count = 8;
        expect(await failureOf(manager.renameState(token.ident, before(token).ident))).toMatchObject({
          code: 'STATE_NESTED_TURNS',
        });
        expectInUse(await failureOf(manager.renameState(token.ident, taken.ident)));
        counter.count += 1;
      });

      expect([await countOf(manager, token), await countOf(manager, taken)]).toStrictEqual([9, 3]);
      await expectIdle(manager);
    });

    it('S10: an ident of which the same turn has opened a state is refused, stored or not; the turn goes on', async () => {
      const { manager, token, heir } = await openCounted();
      await manager.modifyStates([token, heir], async (counter, opened) => {
        const error = await failureOf(manager.renameState(token.ident, heir.ident));
        expectInUse(error);
        expect((error as StateError).message).toContain('has opened a state');
        counter.count += 1;
        opened.count = 1;
      });

      expect([await countOf(manager, token), await countOf(manager, heir)]).toStrictEqual([8, 1]);
      await expectIdle(manager);
    });

    it('S17: what the turn returns is the committed snapshot', async () => {
      const { manager, token } = await openCounted();
      const heir = behind(token);
      const returned = await manager.modifyState(token, async (counter) => {
        await manager.renameState(token.ident, heir.ident);
        counter.count = 8;
        return { counter };
      });

      expect(returned.counter).toStrictEqual(await manager.getState(heir));
      expect(() => (returned.counter.count = 1)).toThrow();
    });

    it('is one event, `renamed`, and calls no hook: nothing was made, and nothing has gone', async () => {
      const { manager, token, heir, events } = await openCounted();
      const hooks: string[] = [];
      for (const reason of STATE_HOOK_REASONS) {
        const call = (state: unknown) => hooks.push(`${reason} ${(state as CounterState).count}`);
        (manager as OpenManager & LockingStateManager).addHook({
          cls: CounterState,
          reason,
          name: 'Hooks.method',
          call,
        });
      }
      await manager.renameState(token.ident, heir.ident);
      await manager.deleteState(heir.ident);
      for (let round = 0; round < 400 && hooks.length === 0; round += 1) await harness.advance(5);
      await harness.advance(20);

      expect(hooks).toStrictEqual(['deleted 7']);
      const [renamed, deleted, ...others] = events;
      expect(others).toStrictEqual([]);
      expect(renamed?.type).toBe('renamed');
      expect([...(renamed?.states ?? [])].sort()).toStrictEqual(['cart', 'counter']);
      expect(renamed?.newIdentHash).toBe(deleted?.identHash);
      expect(renamed?.identHash).not.toBe(deleted?.identHash);
      expect(JSON.stringify(events)).not.toContain(token.ident);
      expect(JSON.stringify(events)).not.toContain(heir.ident);
    });

    it('watchers of the old ident are told `deleted`; those of the new one see the states, whose versions go on', async () => {
      const { manager, token, heir } = await openCounted();
      await manager.modifyState(token, (counter) => counter.increment());
      const old: StateChange<CounterState>[] = [];
      const moved: StateChange<CounterState>[] = [];
      const subscriptions = [
        manager.watch(token).subscribe((change) => old.push(change)),
        manager.watch(heir).subscribe((change) => moved.push(change)),
      ];
      await until(() => old.length === 1 && moved.length === 1, 'the first look');
      await manager.renameState(token.ident, heir.ident);
      await until(() => old.length === 2 && moved.length === 2, 'the move');
      await manager.modifyState(heir, (counter) => counter.increment());
      await until(() => moved.length === 3, 'the commit after it');

      expect(old.map(({ reason, version }) => [reason, version])).toStrictEqual([
        ['current', 2],
        [harness.losesMessages === true ? 'expired' : 'deleted', 0],
      ]);
      expect(moved.map(({ version, state }) => [version, state.count])).toStrictEqual([
        [0, 0],
        [2, 8],
        [3, 9],
      ]);
      expect(moved[2]?.reason).toBe(harness.losesMessages === true ? 'resynced' : 'committed');
      for (const subscription of subscriptions) subscription.unsubscribe();
    });

    it('waits while the application shuts down for nobody: it is refused', async () => {
      const { manager, token, heir } = await openCounted();
      await manager.onModuleDestroy();
      expect(await failureOf(manager.renameState(token.ident, heir.ident))).toBeInstanceOf(
        StateManagerClosedError,
      );
    });

    it('increments of the old and the new ident that race with it are all there, under one or the other', async () => {
      const { manager, token } = await openCounted();
      const random = seededRandom(3);
      for (let round = 0; round < 5; round += 1) {
        const from = new StateToken(newIdent(), CounterState);
        const to = new StateToken(newIdent(), CounterState);
        await manager.setState(from, { count: 1 } as CounterState);
        let acknowledged = 0;
        const calls = Array.from({ length: 40 }, async () => {
          if (random() < 0.5) await tick();
          await manager.modifyState(from, async (counter) => {
            const { count } = counter;
            await tick();
            counter.count = count + 1;
          });
          acknowledged += 1;
        });
        const renaming = manager.renameState(from.ident, to.ident);
        await Promise.all([renaming, ...calls]);
        const counts = [await countOf(manager, from), await countOf(manager, to)] as const;
        expect(acknowledged).toBe(40);
        expect(counts[0] + counts[1]).toBe(41);
      }
      expect(await countOf(manager, token)).toBe(7);
      await expectIdle(manager);
    });

    it('whoever has both locks sees the states under one of the idents, while they move to and fro', async () => {
      const { manager, token, heir } = await openCounted();
      const looks = Array.from({ length: 20 }, async (_, index) => {
        for (let turn = index % 3; turn > 0; turn -= 1) await tick();
        return manager.modifyStates([token, heir], (one, other) => one.count + other.count);
      });
      for (let round = 0; round < 6; round += 1) {
        const idents = [token.ident, heir.ident] as const;
        const [from, to] = round % 2 === 0 ? idents : idents.toReversed();
        expect(await manager.renameState(from as string, to as string)).toBe(true);
        expect(await manager.count()).toBe(1);
      }
      expect(new Set(await Promise.all(looks))).toStrictEqual(new Set([7]));
      await expectIdle(manager);
    });

    it('S3: a reader finds the states under the old ident until they are under the new one', async () => {
      const { manager, token, heir } = await openCounted();
      const seen = new Set<number>();
      const renaming = manager.renameState(token.ident, heir.ident);
      for (let isOver = false; !isOver;) {
        // In this order: what has left the old ident is under the new one by the next look.
        const old = await countOf(manager, token);
        seen.add(old === 0 ? await countOf(manager, heir) : old);
        isOver = await Promise.race([renaming.then(() => true), tick().then(() => false)]);
      }

      expect(await renaming).toBe(true);
      expect(seen).toStrictEqual(new Set([7]));
      expect([await countOf(manager, token), await countOf(manager, heir)]).toStrictEqual([0, 7]);
    });

    it('two that want the same ident, or the same states: one has them', async () => {
      const { manager, token, heir } = await openCounted();
      const other = new StateToken(newIdent(), CounterState);
      await manager.setState(other, { count: 100 } as CounterState);
      const outcomes = await Promise.allSettled([
        manager.renameState(token.ident, heir.ident),
        manager.renameState(other.ident, heir.ident),
      ]);
      expect(outcomes.map(({ status }) => status).sort()).toStrictEqual(['fulfilled', 'rejected']);
      const counts = await Promise.all([token, other, heir].map((each) => countOf(manager, each)));
      expect(counts.reduce((sum, count) => sum + count, 0)).toBe(107);

      const targets = Array.from({ length: 10 }, () => newIdent());
      const moved = await Promise.all(targets.map((target) => manager.renameState(heir.ident, target)));
      expect(moved.filter(Boolean)).toHaveLength(1);
      expect(await manager.count()).toBe(2);
      await expectIdle(manager);
    });

    if (harness.openSecond !== undefined) {
      it('another process that waits for the old ident finds a fresh state, and for the new one the old state', async () => {
        const { manager, token, heir } = await openCounted();
        const second = await harness.openSecond?.();
        const gate = new Gate();
        const renaming = manager.modifyState(token, async (counter) => {
          counter.count = 8;
          await gate.opened;
          await manager.renameState(token.ident, behind(heir).ident);
        });
        await until(() => manager.stats().openTurns === 1, 'the open turn');
        const waiting = second?.modifyState(token, ({ count }) => count);
        await until(() => second?.stats().waiting === 1, 'who waits');
        await harness.advance(20);
        gate.open();
        await renaming;

        expect(await waiting).toBe(0);
        expect(await second?.getState(behind(heir))).toMatchObject({ count: 8 });
        expect(await second?.modifyState(behind(heir), (counter) => counter.count)).toBe(8);
      });
    }
  });
}

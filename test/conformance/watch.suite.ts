import { immutableJSONPatch, type JSONPatchDocument } from 'immutable-json-patch';
import type { Subscription } from 'rxjs';
import { describe, expect, it } from '@jest/globals';
import { StateToken, type StateChange, type StateManager } from 'nestjs-state';
import { RecordedLogs } from '../support/manager-logs.js';
import { failureOf, newIdent, seededRandom, tick, until, type ConformanceHarness } from './harness.js';
import { CartState, CounterState } from './states.js';

/** What one subscriber was told. */
class Told<T> {
  readonly changes: StateChange<T>[] = [];
  readonly subscription: Subscription;
  error: unknown;
  isComplete = false;

  constructor(manager: StateManager, token: StateToken<T>) {
    this.subscription = manager.watch(token).subscribe({
      next: (change) => this.changes.push(change),
      error: (error: unknown) => (this.error = error),
      complete: () => (this.isComplete = true),
    });
  }

  static async start<T>(manager: StateManager, token: StateToken<T>): Promise<Told<T>> {
    const told = new Told(manager, token);
    await told.until(1);
    return told;
  }

  until(count: number): Promise<void> {
    return until(() => this.changes.length >= count, `${count} changes, after ${this.changes.length}`);
  }

  untilState(matches: (state: T) => boolean): Promise<void> {
    return until(() => matches(this.changes.at(-1)?.state as T), 'the state');
  }

  get steps(): [reason: string, version: number][] {
    return this.changes.map(({ reason, version }) => [reason, version]);
  }

  /** The JSON of the last state, as a client has it that applies patches. */
  get patched(): unknown {
    let json: unknown = null;
    for (const { patches } of this.changes)
      json = immutableJSONPatch(json, JSON.parse(JSON.stringify(patches)) as JSONPatchDocument);
    return json;
  }
}

function jsonOf(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value));
}

/** What every manager promises of watching. */
export function watchSuite(harness: ConformanceHarness): void {
  describe('watch', () => {
    it('finds what nobody tells of, and says that something was missed', async () => {
      const manager = await harness.open({ expiration: '1h' });
      const token = new StateToken(newIdent(), CounterState);
      const told = await Told.start(manager, token);
      for (let count = 1; count <= 5; count += 1)
        await manager.modifyState(token, (state) => state.increment());
      await told.untilState(({ count }) => count === 5);
      const again = await Told.start(manager, token);
      await manager.deleteState(token.ident);
      await told.untilState(({ count }) => count === 0);

      const versions = told.steps.map(([, version]) => version);
      expect(versions.slice(0, -1)).toStrictEqual([...new Set(versions.slice(0, -1))].sort((a, b) => a - b));
      expect(told.patched).toStrictEqual(jsonOf(told.changes.at(-1)?.state));
      expect(again.steps[0]).toStrictEqual(['current', 5]);
      const seen = new Set(told.steps.map(([reason]) => reason));
      expect(seen.has('resynced')).toBe(harness.losesMessages === true);
      expect(seen.has('committed')).toBe(harness.losesMessages !== true);
      expect(versions.at(-1)).toBe(0);
    });

    if (harness.losesMessages === true) return;

    it('tells what is committed, and then each commit once, in its order', async () => {
      const manager = await harness.open();
      const token = new StateToken(newIdent(), CounterState);
      const told = await Told.start(manager, token);
      for (let count = 1; count <= 5; count += 1)
        await manager.modifyState(token, (state) => state.increment());
      await told.until(6);

      expect(told.steps).toStrictEqual([
        ['current', 0],
        ['committed', 1],
        ['committed', 2],
        ['committed', 3],
        ['committed', 4],
        ['committed', 5],
      ]);
      expect(told.changes.map(({ state }) => state.count)).toStrictEqual([0, 1, 2, 3, 4, 5]);
      expect(told.changes.at(-1)?.patches).toStrictEqual([{ op: 'replace', path: '/count', value: 5 }]);
      for (const { state } of told.changes) {
        expect(state).toBeInstanceOf(CounterState);
        expect(() => ((state as CounterState).count = 9)).toThrow(TypeError);
      }
    });

    it('begins with the version and the state that are stored, also while a turn is open', async () => {
      const manager = await harness.open();
      const token = new StateToken(newIdent(), CounterState);
      await manager.modifyState(token, (state) => void (state.count = 1));
      await manager.modifyState(token, (state) => void (state.count = 7));
      const turn = await manager.openTurn(token.ident);
      (await turn.state(CounterState)).count = 8;
      const told = await Told.start(manager, token);

      expect(told.steps).toStrictEqual([['current', 2]]);
      expect(told.changes[0]?.state.count).toBe(7);
      expect(told.changes[0]?.patches).toStrictEqual([
        { op: 'replace', path: '', value: jsonOf(told.changes[0]?.state) },
      ]);
      await turn.commit();
      await told.until(2);
      expect(told.steps.at(-1)).toStrictEqual(['committed', 3]);
      expect(told.changes.at(-1)?.state.count).toBe(8);
    });

    it('says nothing of turns that fail, change nothing, or concern another state', async () => {
      const manager = await harness.open();
      const token = new StateToken(newIdent(), CounterState);
      const told = await Told.start(manager, token);
      await failureOf(
        manager.modifyState(token, (state) => {
          state.increment();
          throw new Error('refused');
        }),
      );
      await manager.modifyState(token, (state) => state.count);
      await manager.modifyState(token.withClass(CartState), (cart) => void (cart.total = 1));
      await manager.modifyState(new StateToken(newIdent(), CounterState), (state) => state.increment());
      await manager.modifyState(token, (state) => state.increment());
      await told.until(2);
      await tick();

      expect(told.steps).toStrictEqual([
        ['current', 0],
        ['committed', 1],
      ]);
    });

    it('tells of a deletion, and begins to count anew', async () => {
      const manager = await harness.open();
      const token = new StateToken(newIdent(), CounterState);
      await manager.modifyState(token, (state) => state.increment());
      const told = await Told.start(manager, token);
      await manager.setState(token, { count: 4 } as CounterState);
      await manager.deleteState(token.ident);
      await manager.deleteState(token.ident);
      await manager.modifyState(token, (state) => void (state.count = 9));
      await manager.modifyState(token, async (state, turn) => {
        state.count = 10;
        await manager.deleteState(token.ident);
        (await turn.state(CounterState)).count = 11;
      });
      await told.until(6);

      expect(told.steps).toStrictEqual([
        ['current', 1],
        ['committed', 2],
        ['deleted', 0],
        ['committed', 1],
        ['deleted', 0],
        ['committed', 1],
      ]);
      expect(told.changes.map(({ state }) => state.count)).toStrictEqual([1, 4, 0, 9, 0, 11]);
      expect(told.patched).toStrictEqual(jsonOf(told.changes.at(-1)?.state));
    });

    it('neither keeps a state alive nor hides that it expires', async () => {
      // The first watcher has to be there before the window is over, on the real clock of a busy machine too.
      const manager = await harness.open({ expiration: 1_000 });
      const token = new StateToken(newIdent(), CounterState);
      await manager.modifyState(token, (state) => state.increment());
      const told = await Told.start(manager, token);
      for (let round = 0; round < 5; round += 1) {
        new Told(manager, token).subscription.unsubscribe();
        (await Told.start(manager, token)).subscription.unsubscribe();
        await harness.advance(300);
      }
      const late = await Told.start(manager, token);
      await told.until(2);

      expect(told.steps).toStrictEqual([
        ['current', 1],
        ['expired', 0],
      ]);
      expect(late.steps[0]).toStrictEqual(['current', 0]);
      expect(told.changes[1]?.state.count).toBe(0);
      expect(await manager.count()).toBe(0);
      await manager.modifyState(token, (state) => state.increment());
      await told.until(3);
      expect(told.steps.at(-1)).toStrictEqual(['committed', 1]);
    });

    it('each watcher begins for itself, and whoever leaves hears no more', async () => {
      const manager = await harness.open();
      const token = new StateToken(newIdent(), CounterState);
      const first = await Told.start(manager, token);
      const cart = await Told.start(manager, token.withClass(CartState));
      await manager.modifyState(token, (state) => state.increment());
      const second = await Told.start(manager, token);
      await manager.modifyState(token, (state) => state.increment());
      await Promise.all([first.until(3), second.until(2)]);
      first.subscription.unsubscribe();
      await manager.modifyState(token, (state) => state.increment());
      await second.until(3);
      second.subscription.unsubscribe();
      cart.subscription.unsubscribe();
      await manager.modifyState(token, (state) => state.increment());
      const third = await Told.start(manager, token);

      expect(first.steps.map(([, version]) => version)).toStrictEqual([0, 1, 2]);
      expect(second.steps.map(([, version]) => version)).toStrictEqual([1, 2, 3]);
      expect(cart.steps).toStrictEqual([['current', 0]]);
      expect(third.steps).toStrictEqual([['current', 4]]);
    });

    it('patches lead a client from each state to the next, whatever is in it', async () => {
      const manager = await harness.open();
      const random = seededRandom(11);
      const token = new StateToken(newIdent(), CartState);
      const told = await Told.start(manager, token);
      for (let turn = 0; turn < 40; turn += 1) {
        await manager.modifyState(token, (cart) => {
          if (random() < 0.5) cart.notes.push(`note ${turn}`);
          if (random() < 0.3) cart.notes.splice(0, 1);
          if (random() < 0.2) cart.notes.reverse();
          cart.total = turn + 1;
        });
      }
      await told.untilState(({ total }) => total === 40);

      expect(told.steps.map(([, version]) => version)).toStrictEqual(
        Array.from({ length: 41 }, (_, index) => index),
      );
      expect(told.patched).toStrictEqual(jsonOf(await manager.getState(token)));
    });

    it('tells of turns over several idents, in the room of each of them', async () => {
      const manager = await harness.open();
      const tokens = [newIdent(), newIdent()].map((ident) => new StateToken(ident, CounterState)) as [
        StateToken<CounterState>,
        StateToken<CounterState>,
      ];
      const watchers = await Promise.all(tokens.map((token) => Told.start(manager, token)));
      for (let turn = 1; turn <= 5; turn += 1) {
        await manager.modifyStates(tokens, (first, second) => {
          first.count += 1;
          second.count += 10;
        });
      }
      for (const [index, told] of watchers.entries()) {
        await told.until(6);
        expect(told.steps.map(([, version]) => version)).toStrictEqual([0, 1, 2, 3, 4, 5]);
        expect(told.changes.at(-1)?.state.count).toBe(index === 0 ? 5 : 50);
        expect(new Set(told.steps.slice(1).map(([reason]) => reason))).toStrictEqual(new Set(['committed']));
      }
    });

    it('a watcher that throws is logged, stays subscribed, and disturbs nobody', async () => {
      const logs = RecordedLogs.start();
      const manager = await harness.open();
      const token = new StateToken(newIdent(), CounterState);
      let thrown = 0;
      manager.watch(token).subscribe(() => {
        thrown += 1;
        throw new Error('subscriber');
      });
      const told = await Told.start(manager, token);
      await manager.modifyState(token, (state) => state.increment());
      await told.until(2);

      expect(thrown).toBe(2);
      expect(logs.errors).toHaveLength(2);
      expect(manager.stats().openTurns).toBe(0);
    });

    it('a watcher may change what it watches: it is in no turn', async () => {
      const manager = await harness.open();
      const token = new StateToken(newIdent(), CounterState);
      const writes: Promise<unknown>[] = [];
      const told = new Told(manager, token);
      manager.watch(token).subscribe(({ state, reason }) => {
        if (reason === 'committed' && state.count < 4)
          writes.push(manager.modifyState(token, (own) => own.increment()));
      });
      await told.until(1);
      await manager.modifyState(token, async (state) => {
        state.increment();
        await tick();
      });
      await told.untilState(({ count }) => count === 4);
      await Promise.all(writes);

      expect(told.changes.map(({ state }) => state.count)).toStrictEqual([0, 1, 2, 3, 4]);
      expect(manager.stats()).toMatchObject({ openTurns: 0, waiting: 0 });
    });

    it('is told of every turn of many at once, each once and in order', async () => {
      const manager = await harness.open();
      const token = new StateToken(newIdent(), CounterState);
      const watchers = await Promise.all(Array.from({ length: 5 }, () => Told.start(manager, token)));
      await Promise.all(
        Array.from({ length: 200 }, (_, index) =>
          manager
            .modifyState(token, async (state) => {
              if (index % 5 === 0) await tick();
              if (index % 10 === 9) throw new Error('refused');
              state.increment();
            })
            .catch(() => undefined),
        ),
      );
      for (const told of watchers) {
        await told.until(181);
        expect(told.steps.map(([, version]) => version)).toStrictEqual(
          Array.from({ length: 181 }, (_, index) => index),
        );
        expect(told.changes.map(({ state }) => state.count)).toStrictEqual(
          told.steps.map(([, version]) => version),
        );
        expect(new Set(told.steps.slice(1).map(([reason]) => reason))).toStrictEqual(new Set(['committed']));
      }
    });

    it('ends with the shutdown, and does not begin after it', async () => {
      const manager = await harness.open();
      const token = new StateToken(newIdent(), CounterState);
      const told = await Told.start(manager, token);
      await manager.modifyState(token, (state) => state.increment());
      await told.until(2);
      await manager.onModuleDestroy();
      const late = new Told(manager, token);

      expect(told).toMatchObject({ isComplete: true, error: undefined });
      expect(late.error).toMatchObject({ name: 'StateManagerClosedError' });
    });

    const { openSecond } = harness;
    if (openSecond === undefined) return;

    it('tells in every process of the turns of all of them, in one order', async () => {
      const managers = [await harness.open(), await openSecond()] as const;
      const token = new StateToken(newIdent(), CounterState);
      const watchers = await Promise.all(managers.map((manager) => Told.start(manager, token)));
      await Promise.all(
        Array.from({ length: 120 }, (_, index) =>
          (managers[index % 2] ?? managers[0]).modifyState(token, async (state) => {
            if (index % 7 === 0) await tick();
            state.increment();
          }),
        ),
      );
      for (const told of watchers) {
        await told.until(121);
        expect(told.changes.map(({ state }) => state.count)).toStrictEqual(
          Array.from({ length: 121 }, (_, index) => index),
        );
        expect(told.changes.map(({ version }) => version)).toStrictEqual(
          Array.from({ length: 121 }, (_, index) => index),
        );
      }
    });
  });
}

import { getEventListeners } from 'node:events';
import { describe, expect, it } from '@jest/globals';
import {
  LockExpiredError,
  LockTimeoutError,
  StateManagerClosedError,
  StateSerializationError,
  StateToken,
  TooManyWaitersError,
  type StateEvent,
  type StateManager,
  type StateModuleOptions,
} from 'nestjs-state';
import {
  failureOf,
  Gate,
  newIdent,
  seededRandom,
  tick,
  until,
  untilWaiting,
  type ConformanceHarness,
} from './harness.js';
import { BoxState, CartState, CounterState, NestedState } from './states.js';

/** Tokens of as many idents, in the order in which they are locked. */
function counters(count: number): StateToken<CounterState>[] {
  const idents = Array.from({ length: count }, newIdent).sort();
  return idents.map((ident) => new StateToken(ident, CounterState));
}

type Pair = [StateToken<CounterState>, StateToken<CounterState>];
type Three = [...Pair, StateToken<CounterState>];

const pair = (): Pair => counters(2) as Pair;
const three = (): Three => counters(3) as Three;

const counts = async (manager: StateManager, tokens: readonly StateToken<CounterState>[]) =>
  Promise.all(tokens.map(async (token) => (await manager.getState(token)).count));

const incrementAll = (...states: CounterState[]): void => {
  for (const counter of states) counter.increment();
};

/** Waits until `openTurns` turns have their locks, and `waiting` callers do not. */
const untilOpen = (manager: StateManager, openTurns: number, waiting: number) =>
  until(() => {
    const stats = manager.stats();
    return stats.openTurns === openTurns && stats.waiting === waiting;
  }, `${openTurns} open turns and ${waiting} waiting`);

const expectIdle = (manager: StateManager) =>
  expect(manager.stats()).toMatchObject({ openTurns: 0, waiting: 0 });

export function severalSuite(harness: ConformanceHarness): void {
  const open = (options: StateModuleOptions = {}) => harness.open({ acquireTimeout: '5s', ...options });

  describe('several idents in one turn', () => {
    it('S1: are all locked while mutate runs, and stored when it has ended', async () => {
      const manager = await open();
      const tokens = pair();
      const gate = new Gate();
      const call = manager.modifyStates(tokens, async (a, b) => {
        a.count = 1;
        b.count = 2;
        await gate.opened;
        return a.count + b.count;
      });
      await untilOpen(manager, 2, 0);
      const others = tokens.map((token) => manager.modifyState(token, (counter) => (counter.count *= 10)));
      await untilWaiting(manager, 2);
      expect(await counts(manager, tokens)).toStrictEqual([0, 0]);
      gate.open();

      expect(await call).toBe(3);
      expect(await Promise.all(others)).toStrictEqual([10, 20]);
      expect(await counts(manager, tokens)).toStrictEqual([10, 20]);
      expectIdle(manager);
    });

    it('S1: a call waits behind those who came before it, and comes before those who come after it', async () => {
      const manager = await open();
      const [a, b] = pair();
      const turn = await manager.openTurn(b.ident);
      const order: string[] = [];
      const calls = [
        manager.modifyState(b, () => void order.push('first')),
        manager.modifyStates([b, a], () => void order.push('second')),
      ];
      await untilOpen(manager, 2, 2);
      calls.push(manager.modifyState(b, () => void order.push('third')));
      calls.push(manager.modifyState(a, () => void order.push('third')));
      await turn.rollback();
      await Promise.all(calls);

      expect(order).toStrictEqual(['first', 'second', 'third', 'third']);
    });

    it('S1: they are locked in one order, whatever the order in which they are named: nobody waits for ever', async () => {
      const manager = await open({ acquireTimeout: '15s' });
      const tokens = three();
      const random = seededRandom(7);
      const calls = Array.from({ length: 200 }, async () => {
        const named = tokens
          .map((token) => ({ token, at: random() }))
          .sort((one, other) => one.at - other.at)
          .slice(0, random() < 0.5 ? 2 : 3)
          .map(({ token }) => token);
        await manager.modifyStates(named, async (...states) => {
          const before = states.map(({ count }) => count);
          if (random() < 0.3) await tick();
          states.forEach((counter, index) => (counter.count = (before[index] as number) + 1));
        });
        return named.length;
      });
      const increments = (await Promise.all(calls)).reduce((sum, each) => sum + each, 0);

      expect((await counts(manager, tokens)).reduce((sum, each) => sum + each, 0)).toBe(increments);
      expectIdle(manager);
    });

    it.each([
      ['1,000 transfers between ten accounts', false, 125],
      ['64 transfers of two processes', true, 8],
    ])('S1, S2: %s keep the sum, and nobody sees another one', async (_name, isShared, transfers) => {
      const manager = await open({ acquireTimeout: '15s' });
      const second = isShared ? await harness.openSecond?.({ acquireTimeout: '15s' }) : undefined;
      const managers = [manager, second ?? manager];
      const accounts = counters(10);
      await manager.modifyStates(accounts, (...all) => all.forEach((account) => (account.count = 100)));
      const random = seededRandom(11);
      const tasks = Array.from({ length: 8 }, async (_, task) => {
        const own = managers[task % 2] as StateManager;
        for (let number = 0; number < transfers; number += 1) {
          const [from, to] = [random(), random()].map((at) => accounts[Math.floor(at * 10)]) as Pair;
          const amount = Math.floor(random() * 20);
          const fails = random() < 0.1;
          const call = own.modifyStates([from, to], async (giver, taker) => {
            giver.count -= amount;
            if (random() < 0.2) await tick();
            if (fails) throw new Error('refused');
            taker.count += amount;
          });
          await (fails ? failureOf(call) : call);
          if (number % 25 === task) {
            const seen = await own.modifyStates(accounts, (...all) => all.map(({ count }) => count));
            expect(seen.reduce((sum, each) => sum + each, 0)).toBe(1_000);
          }
        }
      });
      await Promise.all(tasks);
      const stored = await manager.modifyStates(accounts, (...all) => all.map(({ count }) => count));

      expect(stored.reduce((sum, each) => sum + each, 0)).toBe(1_000);
      expect(new Set(stored).size).toBeGreaterThan(1);
      expectIdle(manager);
    });

    it('are one draft for a token that stands twice, and share a turn where they are of one ident', async () => {
      const manager = await open();
      const [a, b] = pair();
      const cart = a.withClass(CartState);
      await manager.modifyStates([a, b, a, cart] as const, (one, other, same, items) => {
        expect(same).toBe(one);
        expect(manager.stats().openTurns).toBe(2);
        one.count -= 5;
        same.count += 7;
        other.increment();
        items.total = 3;
      });
      await manager.modifyStates([a, cart], (counter, items) => {
        expect(manager.stats().openTurns).toBe(1);
        counter.count += items.total;
      });

      expect(await counts(manager, [a, b])).toStrictEqual([5, 1]);
    });

    it('may be none at all', async () => {
      const manager = await open();

      expect(await manager.modifyStates([], () => 'nothing to lock')).toBe('nothing to lock');
      await manager.onModuleDestroy();
      expect(await failureOf(manager.modifyStates([], () => 1))).toBeInstanceOf(StateManagerClosedError);
    });

    it('S2: a mutate that throws stores nothing of any, and the call rejects with just that', async () => {
      const manager = await open();
      const tokens = three();
      await manager.modifyStates(tokens, incrementAll);
      const error = new Error('refused');
      const atOnce = manager.modifyStates(tokens, (...states) => {
        incrementAll(...states);
        throw error;
      });
      const later = manager.modifyStates(tokens, async (...states) => {
        incrementAll(...states);
        await tick();
        throw error;
      });

      expect(await failureOf(atOnce)).toBe(error);
      expect(await failureOf(later)).toBe(error);
      expect(await counts(manager, tokens)).toStrictEqual([1, 1, 1]);
      expectIdle(manager);
    });

    it.each([0, 1, 2])(
      'S2, S12: what cannot be stored in number %i keeps all of them from being stored, and no lock',
      async (place) => {
        const manager = await open();
        const boxes = counters(3).map((token) => token.withClass(BoxState));
        for (const value of [() => 'a function', new WeakMap()] as unknown[]) {
          const call = manager.modifyStates(boxes, (...states) =>
            states.forEach((box, index) => (box.value = index === place ? value : 'fine')),
          );
          expect(await failureOf(call)).toBeInstanceOf(StateSerializationError);
          expect(await manager.count()).toBe(0);
          expectIdle(manager);
        }
        await manager.modifyStates(boxes, (...states) => states.forEach((box) => (box.value = 'fine')));
        expect(await manager.count()).toBe(3);
      },
    );

    it('S2, S8: the lost lock of one of them stores nothing of any, also when it is known before mutate runs', async () => {
      const manager = await open({ maxHold: 400 });
      const tokens = pair();
      const [, second] = tokens;
      const lost: string[] = [];
      manager.events$.subscribe((event) => event.type === 'lock-lost' && lost.push(event.identHash));
      // The first one's lock grows old while the second one is waited for, which others have one after the other.
      for (const [othersMs, workMs] of [
        [[250], 300],
        [[250, 250], 0],
      ] as const) {
        const others = othersMs.map((ms) => manager.modifyState(second, () => harness.advance(ms)));
        await untilOpen(manager, 1, othersMs.length - 1);
        const call = failureOf(
          manager.modifyStates(tokens, async (...states) => {
            incrementAll(...states);
            await harness.advance(workMs);
          }),
        );
        expect(await call).toBeInstanceOf(LockExpiredError);
        await Promise.all(others);
        expect(await counts(manager, tokens)).toStrictEqual([0, 0]);
        expectIdle(manager);
      }
      expect(lost).toHaveLength(2);
      expect(new Set(lost).size).toBe(1);
    });

    it('S9: one acquireTimeout bounds the wait for all of them, and what is locked by then is free in the same tick', async () => {
      const manager = await open();
      const [a, b] = pair();
      const [first, second] = [await manager.openTurn(a.ident), await manager.openTurn(b.ident)];
      let hasRun = false;
      const run = (): void => void (hasRun = true);
      const call = failureOf(manager.modifyStates([b, a], run, { acquireTimeout: 1_500 }));
      await untilWaiting(manager, 1);
      await harness.advance(1_000);
      await first.rollback();
      await untilOpen(manager, 2, 1);
      const started = performance.now();
      if (harness.clock === 'fake') await harness.advance(600);

      const error = (await call) as LockTimeoutError;
      expect(error).toBeInstanceOf(LockTimeoutError);
      expect(error.message).toContain('1500 ms');
      expect(performance.now() - started).toBeLessThan(1_200);
      expect(manager.stats()).toMatchObject({ openTurns: 1, waiting: 0 });
      expect(await manager.modifyState(a, () => 'free', { acquireTimeout: 0 })).toBe('free');
      await second.rollback();
      expect(hasRun).toBe(false);
      expect(await manager.modifyStates([a, b], () => 'both', { acquireTimeout: 0 })).toBe('both');
      expectIdle(manager);
    });

    it('S9: a signal that aborts while a lock is waited for frees those that are held, and later the commit is refused', async () => {
      const manager = await open();
      const tokens = pair();
      const reason = new Error('enough');
      expect(
        await failureOf(manager.modifyStates(tokens, incrementAll, { signal: AbortSignal.abort(reason) })),
      ).toBe(reason);
      const turn = await manager.openTurn(tokens[1].ident);
      const controller = new AbortController();
      const call = failureOf(manager.modifyStates(tokens, incrementAll, { signal: controller.signal }));
      await untilOpen(manager, 2, 1);
      controller.abort(reason);
      expect(await call).toBe(reason);
      expect(manager.stats()).toMatchObject({ openTurns: 1, waiting: 0 });
      await turn.rollback();

      const late = new AbortController();
      const refused = manager.modifyStates(
        tokens,
        async (...states) => {
          incrementAll(...states);
          await using joined = await manager.openTurn(tokens[1].ident);
          late.abort(reason);
          expect(joined.signal.reason).toBe(reason);
          await joined.commit();
        },
        { signal: late.signal },
      );
      expect(await failureOf(refused)).toBe(reason);
      expect(await counts(manager, tokens)).toStrictEqual([0, 0]);
      expectIdle(manager);
    });

    it('S9: too many waiters for one of them free the others', async () => {
      const manager = await open({ maxWaiters: 1 });
      const [a, b] = pair();
      const turn = await manager.openTurn(b.ident);
      const waiter = manager.modifyState(b, () => 'waited');
      await untilWaiting(manager, 1);

      expect(await failureOf(manager.modifyStates([a, b], () => 1))).toBeInstanceOf(TooManyWaitersError);
      expect(await manager.modifyState(a, () => 'free', { acquireTimeout: 0 })).toBe('free');
      await turn.rollback();
      expect(await waiter).toBe('waited');
      expectIdle(manager);
    });

    it('S10: every call inside of mutate joins, for each of the idents', async () => {
      const manager = await open();
      const [a, b, c] = three();
      await manager.modifyStates([a, b], async (one, other) => {
        await manager.modifyState(b, (same) => {
          expect(same).toBe(other);
          same.increment();
        });
        const inner = await manager.modifyStates([b, a], async (second, first) => {
          expect(first).toBe(one);
          expect(second).toBe(other);
          await tick();
          incrementAll(first, second);
          return { first };
        });
        expect(inner.first).toBe(one);
        await manager.setState(a.withClass(CartState), { items: [], notes: ['set'], total: 4 });
        await manager.modifyState(c, (own) => own.increment());
        expect(await counts(manager, [a, b, c])).toStrictEqual([0, 0, 1]);
      });

      expect(await counts(manager, [a, b, c])).toStrictEqual([1, 2, 1]);
      expect((await manager.getState(a.withClass(CartState))).notes).toStrictEqual(['set']);
    });

    it('S10: a joined call that fails takes everything with it, also when its error is caught', async () => {
      const manager = await open();
      const tokens = pair();
      const error = new Error('half done');
      for (const named of [[tokens[1]], tokens]) {
        const call = manager.modifyStates(tokens, async (...states) => {
          incrementAll(...states);
          const joined = manager.modifyStates(named, async (...same) => {
            incrementAll(...same);
            await tick();
            throw error;
          });
          expect(await failureOf(joined)).toBe(error);
        });
        expect(await failureOf(call)).toBe(error);
      }

      expect(await counts(manager, tokens)).toStrictEqual([0, 0]);
      expectIdle(manager);
    });

    it('S10: idents that an open turn does not have yet are added to it, and stored with it', async () => {
      const manager = await open();
      const [a, b, c] = three();
      const seen = await manager.modifyState(a, async (one) => {
        one.increment();
        const inner = await manager.modifyStates([c, b, a], (third, second, first) => {
          expect(first).toBe(one);
          incrementAll(first, second, third);
          return { third };
        });
        expect(manager.stats().openTurns).toBe(3);
        // It is an open turn now like any other: calls join it, and its drafts live on.
        await manager.modifyState(c, (same) => {
          expect(same).toBe(inner.third);
          same.increment();
        });
        await manager.modifyStates([b, c], incrementAll);
        expect(await counts(manager, [a, b, c])).toStrictEqual([0, 0, 0]);
        return inner;
      });

      expect(seen.third).toStrictEqual(await manager.getState(c));
      expect(await counts(manager, [a, b, c])).toStrictEqual([2, 2, 3]);
      expectIdle(manager);
    });

    it('S10: what was added to a turn that fails is not stored, and free', async () => {
      const manager = await open();
      const [a, b, c] = three();
      const error = new Error('too late');
      const outer = manager.modifyState(a, async () => {
        await manager.modifyStates([a, b], incrementAll);
        await manager.modifyStates([b, c], incrementAll);
        throw error;
      });
      expect(await failureOf(outer)).toBe(error);
      const inner = manager.modifyState(a, async (one) => {
        one.increment();
        const failing = manager.modifyStates([a, c], (...states) => {
          incrementAll(...states);
          throw error;
        });
        expect(await failureOf(failing)).toBe(error);
      });
      expect(await failureOf(inner)).toBe(error);

      expect(await counts(manager, [a, b, c])).toStrictEqual([0, 0, 0]);
      expectIdle(manager);
    });

    it('S10: an ident that cannot be added in time leaves the open turn as it was', async () => {
      const manager = await open();
      const [a, b, c] = three();
      const held = await manager.openTurn(c.ident);
      await manager.modifyState(a, async (one) => {
        one.increment();
        const call = failureOf(manager.modifyStates([a, b, c], incrementAll, { acquireTimeout: 50 }));
        await untilOpen(manager, 3, 1);
        await harness.advance(100);
        expect(await call).toBeInstanceOf(LockTimeoutError);
        expect(manager.stats()).toMatchObject({ openTurns: 2, waiting: 0 });
        const late = new AbortController();
        await manager.modifyStates([a, b], incrementAll, { signal: late.signal });
        // Its signal has had its say.
        late.abort();
      });
      await held.rollback();

      expect(await counts(manager, [a, b, c])).toStrictEqual([2, 1, 0]);
      expectIdle(manager);
    });

    it('S10: two calls that add to one turn at the same time do it one after the other', async () => {
      const manager = await open();
      const [a, b, c] = three();
      const held = await manager.openTurn(b.ident);
      await manager.modifyState(a, async () => {
        const first = manager.modifyStates([a, b], incrementAll);
        await untilWaiting(manager, 1);
        const second = manager.modifyStates([a, c], incrementAll);
        const same = manager.modifyStates([b, a], incrementAll);
        await tick();
        // It would stand in the way of whoever has the third and waits for the second.
        expect(await manager.modifyState(c, () => 'free', { acquireTimeout: 0 })).toBe('free');
        await held.rollback();
        await Promise.all([first, second, same]);
      });

      expect(await counts(manager, [a, b, c])).toStrictEqual([3, 2, 1]);
      expectIdle(manager);
    });

    it('S9, S10: whoever adds to a turn behind another call waits no longer than he may', async () => {
      const manager = await open();
      const [a, b, c] = three();
      const held = await manager.openTurn(b.ident);
      await manager.modifyState(a, async () => {
        const first = manager.modifyStates([a, b], incrementAll);
        await untilWaiting(manager, 1);
        const leaving = new AbortController();
        const late = failureOf(manager.modifyStates([a, c], incrementAll, { acquireTimeout: 50 }));
        const left = failureOf(manager.modifyStates([a, c], incrementAll, { signal: leaving.signal }));
        await tick();
        leaving.abort(new Error('left'));
        expect(await left).toBe(leaving.signal.reason);
        expect(getEventListeners(leaving.signal, 'abort')).toEqual([]);
        await harness.advance(100);
        expect(await late).toBeInstanceOf(LockTimeoutError);
        expect(manager.stats()).toMatchObject({ openTurns: 2, waiting: 1 });
        await held.rollback();
        await first;
      });

      expect(await counts(manager, [a, b, c])).toStrictEqual([1, 1, 0]);
      expectIdle(manager);
    });

    it('S10: what would break the order of locks is refused before anything is waited for', async () => {
      const manager = await open();
      const [a, b, c] = three();
      const nested = { code: 'STATE_NESTED_TURNS' };
      await using held = await manager.openTurn(a.ident);
      await manager.modifyState(b, async (two) => {
        two.increment();
        expect(await failureOf(manager.modifyStates([a, b], incrementAll))).toMatchObject(nested);
        expect(await failureOf(manager.modifyStates([a, c], incrementAll))).toMatchObject(nested);
        expect(await failureOf(manager.modifyStates([a], incrementAll))).toMatchObject(nested);
        await manager.modifyState(c, async (third) => {
          third.increment();
          // Two turns, which end one after the other.
          expect(await failureOf(manager.modifyStates([b, c], incrementAll))).toMatchObject(nested);
        });
      });
      await held.rollback();

      expect(await counts(manager, [a, b, c])).toStrictEqual([0, 1, 1]);
      expectIdle(manager);
    });

    it('S10: inside a turn of other idents it is a turn of its own: it stays committed when the outer one fails', async () => {
      const manager = await open();
      const [a, b, c] = three();
      const call = manager.modifyState(a, async (one) => {
        one.increment();
        await manager.modifyStates([b, c], incrementAll);
        expect(await counts(manager, [a, b, c])).toStrictEqual([0, 1, 1]);
        throw new Error('refused');
      });
      await failureOf(call);

      expect(await counts(manager, [a, b, c])).toStrictEqual([0, 1, 1]);
    });

    it('S10: a call that outlives the turn it would have joined stores nothing, and keeps nothing', async () => {
      const manager = await open();
      const [a, b] = pair();
      const held = await manager.openTurn(b.ident);
      let late: Promise<unknown> | undefined;
      await manager.modifyState(a, async (one) => {
        one.increment();
        late = failureOf(manager.modifyStates([a, b], incrementAll));
        await untilWaiting(manager, 1);
      });
      await held.rollback();

      expect(await late).toMatchObject({ code: 'STATE_TURN_ENDED' });
      expect(await counts(manager, [a, b])).toStrictEqual([1, 0]);
      expectIdle(manager);
    });

    it('S11: a delete inside of it is part of it', async () => {
      const manager = await open();
      const [a, b] = pair();
      await manager.modifyStates([a, b], incrementAll);
      const error = new Error('refused');
      const deleting = (throws: boolean) =>
        manager.modifyStates([a, b], async (_, other) => {
          expect(await manager.deleteState(a.ident)).toBe(true);
          other.increment();
          if (throws) throw error;
        });
      expect(await failureOf(deleting(true))).toBe(error);
      expect(await counts(manager, [a, b])).toStrictEqual([1, 1]);
      await deleting(false);

      expect(await counts(manager, [a, b])).toStrictEqual([0, 2]);
      expect(await manager.count()).toBe(1);
    });

    it('S7: what has not changed is not stored', async () => {
      const manager = await open();
      const tokens = three();
      const read = await manager.modifyStates(tokens, (...states) => states.map(({ count }) => count));
      expect(read).toStrictEqual([0, 0, 0]);
      expect(await manager.count()).toBe(0);
      await manager.modifyStates(tokens, (_, second) => second.increment());

      expect(await manager.count()).toBe(1);
      expect(await counts(manager, tokens)).toStrictEqual([0, 1, 0]);
      expectIdle(manager);
    });

    it('S12: a state may hold what another one of them holds: a copy is stored', async () => {
      const manager = await open();
      const [a, b] = pair();
      const tokens = [a.withClass(BoxState), b.withClass(CartState)] as const;
      await manager.modifyStates(tokens, (box, cart) => {
        cart.items.push({ name: 'tea', amount: 1 });
        box.value = { cart, items: [cart.items[0]] };
        cart.total = 4;
      });
      const [box, cart] = [await manager.getState(tokens[0]), await manager.getState(tokens[1])];
      expect(box.value).toStrictEqual({ cart, items: [cart.items[0]] });
      expect(cart.total).toBe(4);
      await manager.modifyState(tokens[1], (draft) => void (draft.total = 5));

      expect((await manager.getState(tokens[0])).value).toMatchObject({ cart: { total: 4 } });
    });

    it('S17: returned states, and parts of them, are committed snapshots', async () => {
      const manager = await open();
      const [a, b] = pair();
      const tokens = [a.withClass(CartState), b, b.withClass(NestedState)] as const;
      const result = await manager.modifyStates(tokens, (cart, counter, nested) => {
        cart.items.push({ name: 'tea', amount: 2 });
        counter.count = 9;
        nested.part.bytes[1] = 7;
        return { cart, list: [counter, cart.items], item: cart.items[0], part: nested.part };
      });
      const cart = await manager.getState(tokens[0]);
      const counter = await manager.getState(b);
      const { part } = await manager.getState(tokens[2]);

      expect(result).toStrictEqual({ cart, list: [counter, cart.items], item: cart.items[0], part });
      expect(() => (result.cart.total = 1)).toThrow(TypeError);
      const all = await manager.modifyStates([a, b], (...states) => states);
      expect(all).toStrictEqual([await manager.getState(a), counter]);
    });

    it('tell of all that they have made when all of it can be seen', async () => {
      const manager = await open();
      const tokens = pair();
      const seen: Promise<number[]>[] = [];
      const events: StateEvent[] = [];
      manager.events$.subscribe((event) => {
        events.push(event);
        seen.push(counts(manager, tokens));
      });
      await manager.modifyStates(tokens, incrementAll);
      await until(() => events.length === 2, 'two events');

      expect(events.map(({ type }) => type)).toStrictEqual(['created', 'created']);
      expect(new Set(events.map(({ identHash }) => identHash)).size).toBe(2);
      expect(await Promise.all(seen)).toStrictEqual([[1, 1], [1, 1]]); // prettier-ignore
    });

    it('S14: shutdown sends away who waits for the second lock, and waits for who has all of them', async () => {
      const manager = await open();
      const [a, b, c] = three();
      const gate = new Gate();
      const running = manager.modifyStates([b, c], async (...states) => {
        await gate.opened;
        incrementAll(...states);
        // What it has locked already is its own until it ends.
        return manager.modifyStates([c, b], (third, second) => [third.count, second.count]);
      });
      await untilOpen(manager, 2, 0);
      const waiting = failureOf(manager.modifyStates([a, c], incrementAll));
      await untilOpen(manager, 3, 1);
      const closing = manager.onModuleDestroy();
      expect(await waiting).toBeInstanceOf(StateManagerClosedError);
      expect(await failureOf(manager.modifyStates([a, b], incrementAll))).toBeInstanceOf(
        StateManagerClosedError,
      );
      gate.open();

      expect(await running).toStrictEqual([1, 1]);
      await closing;
      expectIdle(manager);
    });
  });
}

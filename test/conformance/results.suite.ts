import { describe, expect, it } from '@jest/globals';
import { StateToken, type StateTurn } from 'nestjs-state';
import { failureOf, newIdent, type ConformanceHarness } from './harness.js';
import { BoxState, CartState, CounterState, NestedState } from './states.js';

export function resultsSuite(harness: ConformanceHarness): void {
  const openCart = async () => {
    const manager = await harness.open();
    const token = new StateToken(newIdent(), CartState);
    await manager.modifyState(token, (cart) => void cart.items.push({ name: 'a', amount: 1 }));
    return { manager, token };
  };

  describe('what a turn returns', () => {
    it('S17: a returned state is the committed snapshot', async () => {
      const { manager, token } = await openCart();
      const cart = await manager.modifyState(token, (draft) => {
        draft.total = 7;
        return draft;
      });

      expect(cart).toBeInstanceOf(CartState);
      expect(cart).toStrictEqual(await manager.getState(token));
      expect(JSON.parse(JSON.stringify(cart))).toMatchObject({ total: 7 });
      expect(() => (cart.total = 8)).toThrow(TypeError);
      await manager.modifyState(token, (draft) => void (draft.total = 9));
      expect(cart.total).toBe(7);
    });

    it('S17: a returned part, alone or inside objects and arrays, is alive after the turn', async () => {
      const { manager, token } = await openCart();
      const part = await manager.modifyState(token, (cart) => {
        cart.items.push({ name: 'b', amount: 2 });
        return cart.items;
      });
      expect(part).toStrictEqual([{ name: 'a', amount: 1 }, { name: 'b', amount: 2 }]); // prettier-ignore

      const mixed = await manager.modifyState(token, (cart) => {
        (cart.items[0] as { amount: number }).amount = 5;
        return { items: cart.items, list: [cart.items[0], [cart]], plain: { ok: true }, when: new Date(3) };
      });
      const stored = await manager.getState(token);
      expect(mixed).toStrictEqual({
        items: stored.items,
        list: [stored.items[0], [stored]],
        plain: { ok: true },
        when: new Date(3),
      });
    });

    it('S17: an unchanged state and an unchanged part may be returned too', async () => {
      const { manager, token } = await openCart();
      const result = await manager.modifyState(token, (cart) => [cart, cart.items, cart.items[0]]);
      const stored = await manager.getState(token);

      expect(result).toStrictEqual([stored, stored.items, stored.items[0]]);
    });

    it('S17: a container that holds itself is returned with its circle', async () => {
      const { manager, token } = await openCart();
      interface Circle {
        cart: CartState;
        self?: Circle;
        list: unknown[];
      }
      const result = await manager.modifyState(token, (cart) => {
        const circle: Circle = { cart, list: [] };
        circle.self = circle;
        circle.list.push(circle, circle.list);
        return circle;
      });

      expect(result.self).toBe(result);
      expect(result.list[0]).toBe(result);
      expect(result.list[1]).toBe(result.list);
      expect(result.cart).toStrictEqual(await manager.getState(token));
    });

    it('S17: an instance of a class of your own is returned itself, with snapshots in its fields', async () => {
      const { manager, token } = await openCart();
      class CartView {
        readonly #label = 'a view';
        readonly date = new Date(5);
        readonly nested: { first: unknown; rest: readonly unknown[] };
        plain = { untouched: [1] };

        constructor(
          readonly cart: unknown,
          items: readonly unknown[],
        ) {
          this.nested = { first: items[0], rest: items };
        }

        get label(): string {
          return this.#label;
        }
      }
      const views: CartView[] = [];
      const result = await manager.modifyState(token, (cart) => {
        cart.total = 12;
        for (let number = 0; number < 2; number += 1) views.push(new CartView(cart, cart.items));
        return { view: views[0], list: [views[1], views[0]] };
      });
      const stored = await manager.getState(token);

      expect(result.view).toBe(views[0]);
      expect(result.list).toStrictEqual([views[1], views[0]]);
      for (const view of views) {
        expect(view.label).toBe('a view');
        expect(view.cart).toStrictEqual(stored);
        expect(view.nested).toStrictEqual({ first: stored.items[0], rest: stored.items });
        expect(view.plain).toStrictEqual({ untouched: [1] });
        expect(JSON.parse(JSON.stringify(view))).toMatchObject({ cart: { total: 12 } });
      }
      const alone = await manager.modifyState(token, (cart) => new CartView(cart.items, cart.items));
      expect(alone.cart).toStrictEqual(stored.items);
    });

    it('S2, S17: an error that holds parts of a state is that very error, with what they were', async () => {
      const { manager, token } = await openCart();
      const failWith = (make: (cart: CartState) => unknown) =>
        failureOf(
          manager.modifyState(token, (cart) => {
            cart.items.push({ name: 'b', amount: 2 });
            throw make(cart);
          }),
        );
      class Refusal extends Error {
        constructor(readonly details: unknown) {
          super('refused');
        }
      }
      const thrown: Refusal[] = [];
      const items = [{ name: 'a', amount: 1 }, { name: 'b', amount: 2 }]; // prettier-ignore
      const refusal = await failWith((cart) => {
        thrown.push(new Refusal({ all: cart.items, second: cart.items[1], cart }));
        return thrown[0];
      });
      expect(refusal).toBe(thrown[0]);
      expect(JSON.parse(JSON.stringify((refusal as Refusal).details))).toMatchObject({
        all: items,
        second: items[1],
        cart: { items },
      });
      expect(await failWith((cart) => cart.items)).toStrictEqual(items);
      const caused = await failWith((cart) => new Error('refused', { cause: { cart: cart.items } }));
      expect((caused as Error).cause).toStrictEqual({ cart: items });
      const all = await failWith((cart) => new AggregateError([cart.items[1]]));
      expect((all as AggregateError).errors).toStrictEqual([items[1]]);
      // What cannot be stored cannot be shown either: the error is the same all the same.
      const unreadable = new Refusal(undefined);
      const same = await failWith((cart) => {
        (cart as { total: unknown }).total = () => 1;
        return Object.assign(unreadable, { details: cart });
      });
      expect(same).toBe(unreadable);
      const several = await failureOf(
        manager.modifyStates([token, new StateToken(newIdent(), CounterState)], (cart) => {
          throw new Refusal(cart.items[0]);
        }),
      );
      expect((several as Refusal).details).toStrictEqual(items[0]);
      expect((await manager.getState(token)).items).toStrictEqual([items[0]]);
    });

    it('S17: what an instance does not let be changed is left alone, and nothing of its own is called', async () => {
      const { manager, token } = await openCart();
      const called: string[] = [];
      class Careful {
        other: unknown = undefined;
      }
      const careful = new Careful();
      Object.defineProperty(careful, 'trap', {
        enumerable: true,
        get: () => called.push('get'),
        set: () => {
          called.push('set');
        },
      });
      const result = await manager.modifyState(token, (cart) => {
        const inner = new Careful();
        careful.other = [inner, Buffer.alloc(3)];
        inner.other = careful;
        return [careful, Object.freeze(Object.assign(new Careful(), { other: 1 })), cart.total];
      });

      expect(result[0]).toBe(careful);
      expect(called).toStrictEqual([]);
    });

    it('S17: a result without a state in it is the very object that was returned', async () => {
      const { manager, token } = await openCart();
      const result = { own: [1], map: new Map([['a', 1]]) };
      const date = new Date();

      expect(await manager.modifyState(token, () => result)).toBe(result);
      expect(await manager.modifyState(token, async () => date)).toBe(date);
      expect(await manager.modifyState(token, () => null)).toBeNull();
      result.own.push(2);
    });

    it('S17: states of one turn that are returned together are each their own snapshot', async () => {
      const { manager, token } = await openCart();
      const result = await manager.modifyState(token, async (cart, turn) => {
        const counter = await turn.state(CounterState);
        counter.increment();
        cart.total = 3;
        return { cart, counter };
      });

      expect(result.cart).toStrictEqual(await manager.getState(token));
      expect(result.counter).toStrictEqual(await manager.getState(token.withClass(CounterState)));
    });

    it('S3, S17: typed arrays in a result are copies: writing into them changes nothing stored', async () => {
      const manager = await harness.open();
      const token = new StateToken(newIdent(), NestedState);
      await manager.modifyState(token, (state) => void (state.part.bytes[0] = 1));
      const turns: ((state: NestedState, turn: StateTurn) => unknown)[] = [
        (state) => state,
        (state) => ({ part: state.part }),
        (state) => {
          state.counter.increment();
          return { part: state.part };
        },
        (state) => {
          state.part.label += '!';
          return { part: state.part, bytes: [state.part.bytes] };
        },
        (state) => {
          state.counter.increment();
          return state;
        },
        async (state, turn) => {
          (await turn.state(CounterState)).increment();
          state.counter.increment();
          return { part: state.part };
        },
      ];
      for (const run of turns) {
        const { part } = (await manager.modifyState(token, run)) as Pick<NestedState, 'part'>;
        expect([...part.bytes]).toStrictEqual([1, 0]);
        expect(() => (part.label = 'changed')).toThrow(TypeError);
        part.bytes[0] = 99;
        const stored = (await manager.getState(token)) as NestedState;
        expect([...stored.part.bytes]).toStrictEqual([1, 0]);
      }
    });

    it('S17: a joined call returns the living draft, and the outer turn its snapshot', async () => {
      const { manager, token } = await openCart();
      const result = await manager.modifyState(token, async () => {
        const inner = await manager.modifyState(token, (cart) => ({ cart }));
        inner.cart.total = 11;
        return inner;
      });

      expect(result.cart.total).toBe(11);
      expect(result.cart).toStrictEqual(await manager.getState(token));
    });

    it('S12, S17: a state that holds the draft of another state of the turn stores what that one holds', async () => {
      const { manager, token } = await openCart();
      await manager.modifyState(token, async (cart, turn) => {
        const box = await turn.state(BoxState);
        const counter = await turn.state(CounterState);
        counter.increment();
        box.value = { cart, items: [cart.items[0]], counter, map: new Map([['c', counter]]) };
        cart.total = 4;
      });
      const { value } = (await manager.getState(token.withClass(BoxState))) as BoxState;
      const cart = await manager.getState(token);
      const counter = await manager.getState(token.withClass(CounterState));

      expect(value).toStrictEqual({ cart, items: [cart.items[0]], counter, map: new Map([['c', counter]]) });
      await manager.modifyState(token, (draft) => void (draft.total = 100));
      const again = (await manager.getState(token.withClass(BoxState))) as BoxState;
      expect(again.value).toMatchObject({ cart: { total: 4 } });
    });

    it.each([
      ['an unchanged draft', false],
      ['a changed draft', true],
    ])('S12: a state that holds %s of an open turn of another ident stores a copy', async (_, change) => {
      const { manager, token } = await openCart();
      const other = new StateToken(newIdent(), BoxState);
      const turn = await manager.openTurn(token.ident);
      const cart = await turn.state(CartState);
      if (change) cart.total = 6;
      const returned = await manager.modifyState(other, (box) => {
        box.value = cart;
        return [box.value, cart.items];
      });
      cart.total = 60;
      await turn.commit();

      const expected = Object.assign(new CartState(), {
        items: [{ name: 'a', amount: 1 }],
        total: change ? 6 : 0,
      });
      expect((await manager.getState(other)).value).toStrictEqual(expected);
      expect(returned).toStrictEqual([expected, expected.items]);
      expect((await manager.getState(token)).total).toBe(60);
    });

    it('S12: setState takes a draft for what it holds at the call', async () => {
      const { manager, token } = await openCart();
      const other = new StateToken(newIdent(), CartState);
      await manager.modifyState(token, async (cart) => {
        cart.total = 6;
        await manager.setState(other, cart);
        cart.total = 7;
        await manager.setState(token, cart);
      });

      expect((await manager.getState(other)).total).toBe(6);
      expect((await manager.getState(token)).total).toBe(7);
    });
  });
}

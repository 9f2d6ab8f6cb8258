import { describe, expect, it } from '@jest/globals';
import { StateSerializationError, StateToken } from 'nestjs-state';
import { failureOf, newIdent, type ConformanceHarness } from './harness.js';
import { BoxState, CartState } from './states.js';

type Item = CartState['items'][number];

const ITEMS: Item[] = ['a', 'b', 'c'].map((name, index) => ({ name, amount: index + 1 }));

/** What somebody may make of the parts of a state, of those that he has changed too. */
const ARRANGEMENTS: [string, (items: Item[]) => unknown][] = [
  ['the part itself', (items) => items[1]],
  ['a new object', ([first]) => ({ first })],
  ['a new array', (items) => items.filter(({ amount }) => amount > 1)],
  ['a new Map', (items) => new Map(items.map((item) => [item.name, item]))],
  ['a new Set', (items) => new Set(items.slice(1))],
  ['a Set in a new object', ([first]) => ({ picked: new Set([first]) })],
  ['a Map in a Set', ([first]) => new Set([new Map([['first', first]])])],
  ['a wrapper for each', (items) => items.map((item) => ({ item }))],
  [
    'several groups of the same',
    ([first, second, third]) => ({
      byName: { a: [first], b: [second], c: [third] },
      byAmount: { few: [first, second], many: [third], all: [first, second, third] },
    }),
  ],
];

/** Parts of states that stand in something new. */
export function partsSuite(harness: ConformanceHarness): void {
  describe('parts of a state', () => {
    const openFilled = async () => {
      const manager = await harness.open();
      const cart = new StateToken(newIdent(), CartState);
      await manager.modifyState(cart, (draft) => void (draft.items = structuredClone(ITEMS)));
      return { manager, cart };
    };
    const changed = ITEMS.map((item, index) => (index === 1 ? { ...item, amount: 20 } : item));

    it.each(ARRANGEMENTS)('S12: may stand in %s of the same state', async (_, arrange) => {
      const { manager, cart } = await openFilled();
      const token = cart.withClass(BoxState);
      await manager.modifyState(token, (box) => void (box.value = { items: structuredClone(ITEMS) }));
      await manager.modifyState(token, (box) => {
        const { items } = box.value as { items: Item[] };
        (items[1] as Item).amount = 20;
        box.value = { items, arranged: arrange(items), again: [arrange(items)] };
      });

      expect((await manager.getState(token)).value).toStrictEqual({
        items: changed,
        arranged: arrange(changed),
        again: [arrange(changed)],
      });
    });

    it.each(ARRANGEMENTS)(
      'S2, S12, I6: may stand in %s of another state, and all of it is stored or nothing',
      async (_, arrange) => {
        const { manager, cart } = await openFilled();
        for (const box of [cart.withClass(BoxState), new StateToken(newIdent(), BoxState)]) {
          const drafts: BoxState[] = [];
          const own = new RangeError('of the handler');
          const arrangeIn = (draft: CartState, target: BoxState): void => {
            drafts.push(target);
            target.touched.times += 1;
            // In a part that has a draft of its own they are met one by one when that one ends.
            target.list = draft.items.map((item, n) => ({ n, item }));
            for (const item of draft.items) (target.touched as Record<string, unknown>)[item.name] = { item };
            target.value = { one: arrange(draft.items), two: [arrange(draft.items)] };
          };
          const failing = manager.modifyStates([cart, box], (draft, target) => {
            arrangeIn(draft, target);
            throw own;
          });
          expect(await failureOf(failing)).toBe(own);
          await manager.modifyStates([cart, box], arrangeIn);
          const turn = await manager.openTurn(cart.ident);
          arrangeIn(await turn.state(CartState), await turn.state(BoxState));
          await turn.rollback();

          expect(await manager.getState(box)).toMatchObject({
            value: { one: arrange(ITEMS), two: [arrange(ITEMS)] },
            touched: { times: 1, a: { item: ITEMS[0] }, c: { item: ITEMS[2] } },
          });
          for (const draft of drafts) expect(() => draft.touched).toThrow(TypeError);
          expect(manager.stats()).toMatchObject({ openTurns: 0, waiting: 0 });
        }
      },
    );

    it('S12: of a turn that has ended are refused, with the path', async () => {
      const { manager, cart } = await openFilled();
      const token = cart.withClass(BoxState);
      const refusedAt = async (place: (part: object) => unknown): Promise<string> => {
        const failure = await failureOf(
          manager.modifyState(token, async (box) => {
            let dead = {};
            await manager.modifyState(new StateToken(newIdent(), CartState), (other) => void (dead = other));
            box.value = place(dead);
          }),
        );
        expect(failure).toBeInstanceOf(StateSerializationError);
        return (failure as StateSerializationError).path;
      };

      expect(await refusedAt((part) => ({ part }))).toBe('box.value.part');
      expect(await refusedAt((part) => [[part], [part]])).toBe('box.value[0][0]');
      expect(await refusedAt((part) => new Map([['key', { part }]]))).toBe('box.value["key"].part');
      expect(manager.stats()).toMatchObject({ openTurns: 0, waiting: 0 });
    });
  });
}

import { describe, expect, it } from '@jest/globals';
import { StateSerializationError, StateToken } from 'nestjs-state';
import { failureOf, newIdent, type ConformanceHarness } from './harness.js';
import { BoxState, CounterState } from './states.js';
import { ALLOWED, REFUSED } from './values.js';

export function valuesSuite(harness: ConformanceHarness): void {
  describe('values', () => {
    it.each(ALLOWED)('S12: %s comes back as it was stored', async (_, make) => {
      const manager = await harness.open();
      const byTurn = new StateToken(newIdent(), BoxState);
      const bySet = new StateToken(newIdent(), BoxState);
      await manager.modifyState(byTurn, (box) => void (box.value = make()));
      await manager.setState(bySet, Object.assign(new BoxState(), { value: make() }));

      for (const token of [byTurn, bySet]) {
        expect((await manager.getState(token)).value).toStrictEqual(make());
        const seen = await manager.modifyState(token, (box) => {
          box.touched.times += 1;
          return box.value;
        });
        expect(seen).toStrictEqual(make());
        const after = await manager.getState(token);
        expect(after.value).toStrictEqual(make());
        expect(after.touched.times).toBe(1);
      }
    });

    it('S12: an invalid Date comes back as one', async () => {
      const manager = await harness.open();
      const token = new StateToken(newIdent(), BoxState);
      await manager.modifyState(token, (box) => void (box.value = new Date(Number.NaN)));
      const { value } = await manager.getState(token);

      expect(value).toBeInstanceOf(Date);
      expect((value as Date).getTime()).toBeNaN();
    });

    it.each(REFUSED)('S12: %s is refused with its path', async (_, make, path) => {
      const manager = await harness.open();
      const token = new StateToken(newIdent(), BoxState);
      await manager.modifyState(token, (box) => void (box.value = 'before'));
      const before = await manager.getState(token);

      const expectRefused = async (call: Promise<unknown>): Promise<void> => {
        const [failure, stats] = await failureOf(call).then((error) => [error, manager.stats()] as const);
        expect(failure).toBeInstanceOf(StateSerializationError);
        const { path: found, message, code } = failure as StateSerializationError;
        expect(found.startsWith(`box.value${path}`)).toBe(true);
        if (!_.includes('circular')) expect(found).toBe(`box.value${path}`);
        expect(message.startsWith(found)).toBe(true);
        expect(code).toBe('STATE_SERIALIZATION');
        expect(stats).toMatchObject({ openTurns: 0, waiting: 0 });
        expect(await manager.getState(token)).toStrictEqual(before);
      };

      await expectRefused(manager.modifyState(token, (box) => void (box.value = make())));
      await expectRefused(manager.setState(token, Object.assign(new BoxState(), { value: make() })));
      await expectRefused(
        manager.modifyState(token, async (box, turn) => {
          box.touched.times += 1;
          (box.list[0] as { n: number }).n += 1;
          (await turn.state(CounterState)).increment();
          box.value = make();
        }),
      );
      const turn = await manager.openTurn(token.ident);
      const box = await turn.state(BoxState);
      box.touched.times += 1;
      box.value = make();
      await expectRefused(turn.commit());
      expect(() => box.value).toThrow(TypeError);
      expect(() => box.touched).toThrow(TypeError);

      expect((await manager.getState(token.withClass(CounterState))).count).toBe(0);
      await manager.modifyState(token, (state) => void (state.value = 'after'));
      expect((await manager.getState(token)).value).toBe('after');
    });

    it.each(REFUSED)(
      'S12: %s is refused in a default of the class, a key of a Map and a Set',
      async (_, make) => {
        const manager = await harness.open();
        const token = new StateToken(newIdent(), BoxState);
        for (const value of [new Map([['k', make()]]), new Set([make()]), [make()], { a: { b: make() } }]) {
          const failure = await failureOf(manager.modifyState(token, (box) => void (box.value = value)));
          expect(failure).toBeInstanceOf(StateSerializationError);
        }
        expect(await manager.count()).toBe(0);
      },
    );

    it('S12: what is no state at all is refused by setState', async () => {
      const manager = await harness.open();
      const token = new StateToken(newIdent(), CounterState);
      const never = [5, 'text', null, undefined, () => 1, [], new Map(), new Date(), new BoxState()];
      for (const value of never) {
        expect(await failureOf(manager.setState(token, value as never))).toMatchObject({
          name: 'StateSerializationError',
          path: 'counter',
        });
      }
      expect(await manager.count()).toBe(0);
    });

    it('S12: setState takes a plain object with the fields of the class, and fills in what is missing', async () => {
      const manager = await harness.open();
      const token = new StateToken(newIdent(), BoxState);
      await manager.setState(token, { value: 5 } as BoxState);

      const expected = Object.assign(new BoxState(), { value: 5 });
      expect(await manager.getState(token)).toStrictEqual(expected);
    });

    const hostile: [string, () => object, string][] = [
      [
        'a getter that throws',
        () => Object.defineProperty({}, 'value', { enumerable: true, get: () => { throw new Error('boom'); } }), // prettier-ignore
        'box.value',
      ],
      ['a getter', () => ({ get value() { return 1; } }), 'box.value'], // prettier-ignore
      ['a function', () => ({ value: () => 1 }), 'box.value'],
      ['a __proto__ key', () => JSON.parse('{"__proto__": {"value": 1}}') as object, 'box.__proto__'],
      ['a symbol key', () => ({ [Symbol('s')]: 1 }), 'box[Symbol(s)]'],
    ];
    it.each(hostile)('S12: setState refuses a plain object with %s', async (_, make, path) => {
      const manager = await harness.open();
      const token = new StateToken(newIdent(), BoxState);
      const failure = await failureOf(manager.setState(token, make() as BoxState));

      expect(failure).toBeInstanceOf(StateSerializationError);
      expect((failure as StateSerializationError).path).toBe(path);
      expect(await manager.count()).toBe(0);
    });

    it('S12: a state of a turn that has ended is refused, with its path', async () => {
      const manager = await harness.open();
      const token = new StateToken(newIdent(), BoxState);
      const other = new StateToken(newIdent(), CounterState);
      let dead: CounterState | undefined;
      await manager.modifyState(other, (counter) => void (dead = counter));
      const assigned = manager.modifyState(token, (box) => void (box.value = { counter: dead }));
      expect(await failureOf(assigned)).toMatchObject({
        name: 'StateSerializationError',
        path: 'box.value.counter',
      });
      expect(await failureOf(manager.setState(other, dead as CounterState))).toBeInstanceOf(
        StateSerializationError,
      );
      expect(manager.stats().openTurns).toBe(0);
    });
  });
}

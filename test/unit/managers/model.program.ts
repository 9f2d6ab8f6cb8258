import * as fc from 'fast-check';

export const EXPIRATION_MS = 100;
export const MAX_HOLD_MS = 1_000;

export type Ending = 'return' | 'throw' | 'abort' | 'unstorable';

/** What is done to the states of one ident, in one turn or in none. */
export type Step =
  | { do: 'modify'; ident: number; cls: number; add: number; ending: Ending; pauses: number }
  | { do: 'nested'; ident: number; cls: number; add: number; inner: Step; catches: boolean; ending: Ending }
  | { do: 'turn'; ident: number; cls: number; add: number; ending: 'commit' | 'rollback' }
  | { do: 'set'; ident: number; cls: number; value: number }
  | { do: 'get'; ident: number; cls: number }
  | { do: 'delete'; ident: number };

export type Command =
  | { do: 'step'; step: Step }
  | { do: 'rename'; from: number; to: number }
  /** Inside of a turn, between two changes of it. */
  | { do: 'login'; from: number; to: number; cls: number; add: number; ending: Ending }
  | { do: 'batch'; steps: Step[] }
  | { do: 'advance'; ms: number }
  | { do: 'block'; ms: number; step: Step }
  | { do: 'contend'; ident: number; holdMs: number; timeoutsMs: number[] };

const ident = fc.integer({ min: 0, max: 2 });
const cls = fc.integer({ min: 0, max: 1 });
const add = fc.integer({ min: 0, max: 3 });
const ending = fc.constantFrom<Ending>('return', 'return', 'return', 'throw', 'abort', 'unstorable');
const passing = fc.constantFrom(0, 1, 40, 60, 99, 100, 101, 250);

const { step } = fc.letrec<{ step: Step }>((tie) => ({
  step: fc.oneof(
    { maxDepth: 3, withCrossShrink: true },
    fc.record({
      do: fc.constant('modify' as const),
      ident,
      cls,
      add,
      ending,
      pauses: fc.integer({ min: 0, max: 2 }),
    }),
    fc.record({ do: fc.constant('get' as const), ident, cls }),
    fc.record({ do: fc.constant('set' as const), ident, cls, value: add }),
    fc.record({ do: fc.constant('delete' as const), ident }),
    fc.record({
      do: fc.constant('turn' as const),
      ident,
      cls,
      add,
      ending: fc.constantFrom('commit', 'rollback'),
    }),
    fc.record({
      do: fc.constant('nested' as const),
      ident,
      cls,
      add,
      inner: tie('step'),
      catches: fc.boolean(),
      ending,
    }),
  ),
})) as { step: fc.Arbitrary<Step> };

// Steps that run next to each other keep to one ident each: two that lock two idents crosswise would wait for each
// other. A read is not in line with them, so what it sees depends on how far the others are.
const flat = step.filter((each) => each.do !== 'nested' && each.do !== 'get');

export const program: fc.Arbitrary<Command[]> = fc.array(
  fc.oneof(
    { weight: 6, arbitrary: fc.record({ do: fc.constant('step' as const), step }) },
    {
      weight: 2,
      arbitrary: fc.record({ do: fc.constant('batch' as const), steps: fc.array(flat, { maxLength: 8 }) }),
    },
    { weight: 2, arbitrary: fc.record({ do: fc.constant('rename' as const), from: ident, to: ident }) },
    {
      weight: 2,
      arbitrary: fc.record({ do: fc.constant('login' as const), from: ident, to: ident, cls, add, ending }),
    },
    { weight: 3, arbitrary: fc.record({ do: fc.constant('advance' as const), ms: passing }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('block' as const), ms: passing, step }) },
    {
      weight: 1,
      arbitrary: fc.record({
        do: fc.constant('contend' as const),
        ident,
        holdMs: fc.constantFrom(5, 50, 150),
        timeoutsMs: fc.array(fc.constantFrom(1, 20, 120, 500), { maxLength: 4 }),
      }),
    },
  ),
  { maxLength: 30 },
);

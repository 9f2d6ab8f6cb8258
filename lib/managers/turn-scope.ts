import { AsyncLocalStorage } from 'node:async_hooks';
import type { ManagedTurn } from './managed-turn.js';

/** The turns whose code is running, innermost first. */
export interface TurnFrame {
  readonly turn: ManagedTurn | undefined;
  readonly outer: TurnFrame | undefined;
  /** Of several turns that a handler has together, the one of the client's own ident. */
  readonly own?: ManagedTurn | undefined;
  /** The arguments an interceptor prepared for the handler it is about to call, by parameter index. */
  readonly injected: readonly unknown[] | undefined;
  /** The request they were prepared for. */
  readonly request: object | undefined;
  /** The handler has given its answer: what is called from here on is not inside of it any more. */
  isOver?: boolean;
}

// One storage for all managers of the process: a frame names its turn, and a turn its manager. It holds nothing
// outside a running turn.
const storage = new AsyncLocalStorage<TurnFrame | undefined>();

/** The innermost turn frame of this async context. */
export function currentFrame(): TurnFrame | undefined {
  return storage.getStore();
}

/**
 * What a new frame names as its outer one. Frames of turns that have ended are left out: work that is handed on from
 * one turn to the next for ever would hold all of them otherwise.
 */
export function enclosingFrame(): TurnFrame | undefined {
  let frame = storage.getStore();
  while (frame !== undefined && frame.turn?.isRunning !== true) frame = frame.outer;
  return frame;
}

/** The frame of code that runs inside `turn`. */
export function frameOf(turn: ManagedTurn): TurnFrame {
  return { turn, outer: enclosingFrame(), injected: undefined, request: undefined };
}

/** Calls `run(first, second)` so that it, and whatever it starts, is inside the turn of `frame`, or of none. */
export function runInFrame<A, B, R>(
  frame: TurnFrame | undefined,
  run: (first: A, second: B) => R,
  first: A,
  second: B,
): R {
  return storage.run(frame, run, first, second);
}

/**
 * The open turn of `owner` for `ident` that the running code is inside of. Turns that have ended are passed over:
 * what a handler left running in the background is on its own.
 */
export function findOpenTurn(owner: object, ident: string): ManagedTurn | undefined {
  for (let frame = storage.getStore(); frame !== undefined; frame = frame.outer) {
    const { turn } = frame;
    if (turn === undefined || turn.host !== owner || !turn.isRunning) continue;
    if (turn.ident === ident) return turn;
    const companion = turn.companions?.find((other) => other.ident === ident);
    if (companion !== undefined) return companion;
  }
  return undefined;
}

/** The idents of all open turns of `owner` that the running code is inside of. */
export function openIdents(owner: object): string[] {
  const idents: string[] = [];
  for (let frame = storage.getStore(); frame !== undefined; frame = frame.outer) {
    const { turn } = frame;
    if (turn === undefined || turn.host !== owner || !turn.isRunning) continue;
    idents.push(turn.ident);
    if (turn.companions !== undefined) for (const { ident } of turn.companions) idents.push(ident);
  }
  return idents;
}

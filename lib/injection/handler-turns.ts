import type { ManagedTurn } from '../managers/managed-turn.js';
import { enclosingFrame, type TurnFrame } from '../managers/turn-scope.js';

/** The open turns of one run of a handler: one for each ident it changes. Whoever has them ends them. */
export class HandlerTurns {
  constructor(private readonly turns: readonly ManagedTurn[]) {}

  /** The turn of `ident`, which must be one of those the handler changes. */
  of(ident: string): ManagedTurn {
    return this.turns.find((turn) => turn.ident === ident) as ManagedTurn;
  }

  /** The frame the handler runs in: inside all of its turns. */
  frame(request: object, injected: ReadonlyMap<number, unknown>): TurnFrame {
    let frame: TurnFrame = { turn: undefined, outer: enclosingFrame() };
    for (const turn of this.turns) frame = { turn, outer: frame };
    return { ...frame, request, injected };
  }

  /** Commits all turns, or none where that can be known before, and returns what `result` is to the client. */
  commit(result: unknown): unknown {
    const { turns } = this;
    const [first] = turns;
    if (first === undefined) return result;
    if (turns.length === 1) return first.settle(result);
    let settled = result;
    try {
      for (const turn of turns) settled = turn.prepare(settled, true);
      for (const turn of turns) turn.store();
    } catch (error) {
      this.rollback();
      throw error;
    }
    return settled;
  }

  /** Rolls back whatever is open. */
  rollback(): void {
    for (const turn of this.turns) turn.abandon();
  }

  /** Calls `onLost` if one of the turns loses its lock. */
  whenLost(onLost: () => void): void {
    for (const turn of this.turns) turn.signal.addEventListener('abort', onLost, { once: true });
  }
}

import type { ManagedTurn } from '../managers/managed-turn.js';
import { enclosingFrame, type TurnFrame } from '../managers/turn-scope.js';

/** What became of the turns of a handler. */
export interface HandlerCommit {
  /** What the result of the handler is to the client. */
  readonly result: unknown;
  /** Settles when the store has answered; `undefined` where it has already. */
  readonly stored: Promise<void> | undefined;
}

/** The open turns of one run of a handler: one for each ident it changes. Whoever has them ends them. */
export class HandlerTurns {
  constructor(private readonly turns: readonly ManagedTurn[]) {}

  /** The turn of `ident`, which must be one of those the handler changes. */
  of(ident: string): ManagedTurn {
    return this.turns.find((turn) => turn.ident === ident) as ManagedTurn;
  }

  /** The frame the handler runs in: inside all of its turns. `ownIdent` is that of the client, where it is known. */
  frame(request: object, injected: readonly unknown[], ownIdent: string | undefined): TurnFrame {
    const { turns } = this;
    let frame: TurnFrame = { turn: turns[0], outer: enclosingFrame(), injected, request };
    if (turns.length < 2) return frame;
    const own = turns.find(({ ident }) => ident === ownIdent);
    for (const turn of turns.slice(1))
      frame = { turn, outer: frame, injected, request, together: turns, own };
    return frame;
  }

  /** Commits all turns, or none where that can be known before. @throws what keeps a turn from being committed. */
  commit(result: unknown): HandlerCommit {
    const { turns } = this;
    const areSeveral = turns.length > 1;
    const storing: Promise<void>[] = [];
    let settled = result;
    try {
      for (const turn of turns) settled = turn.prepare(settled, areSeveral);
      for (const turn of turns) {
        const stored = turn.store();
        if (stored !== undefined) storing.push(stored);
      }
    } catch (error) {
      this.rollback();
      throw error;
    }
    return { result: settled, stored: storing.length > 1 ? allStored(storing) : storing[0] };
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

/** Waits for every one of them, so that no failure is left without somebody to hear of it, and throws the first. */
async function allStored(storing: readonly Promise<void>[]): Promise<void> {
  const outcomes = await Promise.allSettled(storing);
  for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason;
}

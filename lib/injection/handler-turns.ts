import type { ManagedTurn } from '../managers/managed-turn.js';
import { enclosingFrame, type TurnFrame } from '../managers/turn-scope.js';

/** What became of the turns of a handler. */
export interface HandlerCommit {
  /** What the result of the handler is to the client. */
  readonly result: unknown;
  /** Settles when the store has answered; `undefined` where it has already. */
  readonly stored: Promise<void> | undefined;
}

/**
 * The open turns of one run of a handler: one for each ident it changes. The first leads the others: they are committed,
 * or rolled back, together. Whoever has them ends them.
 */
export class HandlerTurns {
  private readonly leader: ManagedTurn | undefined;

  constructor(private readonly turns: readonly ManagedTurn[]) {
    const [leader, ...companions] = turns;
    this.leader = leader;
    if (companions.length > 0) leader?.lead(companions);
  }

  /** The turn of `ident`, which must be one of those the handler changes. */
  of(ident: string): ManagedTurn {
    return this.turns.find((turn) => turn.ident === ident) as ManagedTurn;
  }

  /** The frame the handler runs in: inside all of its turns. `ownIdent` is that of the client, where it is known. */
  frame(request: object, injected: readonly unknown[], ownIdent: string | undefined): TurnFrame {
    const { turns, leader } = this;
    const own = turns.length < 2 ? leader : turns.find(({ ident }) => ident === ownIdent);
    return { turn: leader, outer: enclosingFrame(), injected, request, own };
  }

  /** Commits all turns, or none. @throws what keeps a turn from being committed. */
  commit(result: unknown): HandlerCommit {
    const { leader } = this;
    if (leader === undefined) return { result, stored: undefined };
    const settled = leader.prepare(result);
    return { result: settled, stored: leader.store() };
  }

  /** Rolls back whatever is open. */
  rollback(): void {
    this.leader?.abandon();
  }

  /** Calls `onLost` if one of the turns loses its lock. */
  whenLost(onLost: () => void): void {
    for (const turn of this.turns) turn.signal.addEventListener('abort', onLost, { once: true });
  }
}

import type { ManagedTurn } from '../managers/managed-turn.js';
import { enclosingFrame, type TurnFrame } from '../managers/turn-scope.js';

/** What became of the turns of a handler. */
export interface HandlerCommit {
  /** What the result of the handler is to the client. */
  readonly result: unknown;
  /** Settles when the store has answered; `undefined` where it has already. */
  readonly stored: Promise<void> | undefined;
}

const NONE: readonly never[] = [];

/**
 * The open turns of one run of a handler: one for each ident it changes. The first leads the others: they are committed,
 * or rolled back, together. Whoever has them ends them.
 */
export class HandlerTurns {
  private isOffered = false;

  constructor(
    private readonly leader: ManagedTurn | undefined,
    private readonly companions: readonly ManagedTurn[] = NONE,
  ) {
    if (companions.length > 0) leader?.lead(companions);
  }

  /** Whether they are open, and wait for who claims them. */
  get isUnclaimed(): boolean {
    return this.isOffered;
  }

  /** From now on they are {@link isUnclaimed}: somebody else is to end them. */
  offer(): void {
    this.isOffered = true;
  }

  /** Who claims them ends them. False when they are not to be had. */
  claim(): boolean {
    const { isOffered } = this;
    this.isOffered = false;
    return isOffered;
  }

  /** Rolls them back, unless somebody has claimed them. */
  handBack(): void {
    if (this.claim()) this.rollback();
  }

  /** The turn of `ident`, which must be one of those the handler changes. */
  of(ident: string): ManagedTurn {
    return (this.leader?.ident === ident ? this.leader : this.companion(ident)) as ManagedTurn;
  }

  /** The frame the handler runs in: inside all of its turns. `ownIdent` is that of the client, where it is known. */
  frame(request: object, injected: readonly unknown[], ownIdent: string | undefined): TurnFrame {
    const { leader } = this;
    const isOwn = this.companions.length === 0 || leader?.ident === ownIdent;
    const own = isOwn ? leader : this.companion(ownIdent);
    return { turn: leader, outer: enclosingFrame(), injected, request, own, isOver: false };
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

  /** Calls `onFree` when a lock of them is lost; at once where that has happened, or there is none. */
  whenLost(onFree: () => void): void {
    const { leader } = this;
    const signals = leader === undefined ? [] : [leader, ...this.companions].map(({ signal }) => signal);
    if (signals.length === 0 || signals.some(({ aborted }) => aborted)) onFree();
    else for (const signal of signals) signal.addEventListener('abort', onFree, { once: true });
  }

  private companion(ident: string | undefined): ManagedTurn | undefined {
    return this.companions.find((turn) => turn.ident === ident);
  }
}

import type { LockWait } from './locking-state.manager.js';
import type { ManagedTurn } from './managed-turn.js';
import {
  addMissing,
  assertInOrder,
  ended,
  inLockOrder,
  leadOrAbandon,
  lockAll,
  outerOf,
  type SeveralTurnsHost,
} from './several-turns.js';
import { findOpenTurn, openIdents } from './turn-scope.js';

/** What becomes of whose states. */
export interface StateMove {
  readonly from: string;
  readonly to: string;
  /** Nobody else can know the new ident: who locks it cannot wait for anybody, in whatever order. */
  readonly isUnknown?: boolean;
  /** Called before it is stored: what it throws keeps it from being committed. */
  readonly check?: () => void;
  /** Called when it is known whether it is stored, before anybody else hears of it. Must not throw. */
  readonly onEnd?: (isStored: boolean) => void;
}

/**
 * Moves the states of one ident to another, in a turn over both, or in the open turn of the running code that has one of
 * them: then it is stored with that turn. True if anything is stored.
 *
 * @throws {StateError} `STATE_IDENT_IN_USE` when the new ident has states.
 */
export async function renameStates(
  host: SeveralTurnsHost,
  move: StateMove,
  wait: LockWait,
): Promise<boolean> {
  const name = 'renameState';
  const { from, to, isUnknown = false, check, onEnd } = move;
  const idents = inLockOrder([from, to]);
  const outer = outerOf(host, idents, name);
  if (outer === undefined) {
    assertInOrder(isUnknown ? [from] : idents, openIdents(host), name);
    return moveAlone(await lockAll(host, idents, name, wait, undefined), move);
  }
  if (isUnknown) leadOrAbandon(outer, await lockAll(host, [to], name, wait, undefined), name);
  else await addMissing(host, idents, name, wait);
  const turn = findOpenTurn(host, from);
  const heir = findOpenTurn(host, to);
  if (turn === undefined || heir === undefined) throw ended(name);
  const isMoved = turn.moveTo(heir);
  const leader = turn.leader ?? turn;
  if (check !== undefined) leader.beforeCommit(check);
  if (onEnd !== undefined) leader.whenEnded(onEnd);
  return isMoved;
}

async function moveAlone(
  turns: readonly ManagedTurn[],
  { from, to, check, onEnd }: StateMove,
): Promise<boolean> {
  const [leader, ...companions] = turns as [ManagedTurn, ...ManagedTurn[]];
  leader.lead(companions);
  let isMoved: boolean;
  try {
    const [turn, heir] = [from, to].map((ident) => turns.find((each) => each.ident === ident) ?? leader);
    isMoved = (turn as ManagedTurn).moveTo(heir as ManagedTurn);
  } catch (error) {
    leader.abandon();
    await leader.whenReleased();
    throw error;
  }
  if (check !== undefined) leader.beforeCommit(check);
  if (onEnd !== undefined) leader.whenEnded(onEnd);
  leader.prepare(undefined);
  await leader.store();
  return isMoved;
}

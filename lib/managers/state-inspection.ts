import { DeadlineQueue } from '../internal/deadline-queue.js';
import { hashIdent } from '../internal/ident.js';
import type { KeyedMutex } from '../internal/keyed-mutex.js';
import { ManagedTurn } from './managed-turn.js';
import type { StateStats } from './state.manager.js';

/** A turn that holds its lock. */
export interface InspectedTurn {
  /** Who opened it: a handler such as `CounterController.increment`, a label, or the names of its states. */
  readonly label: string;
  /** For how long it has had its lock, in milliseconds. */
  readonly heldMs: number;
  /** A short hash of the ident. The ident itself is a credential and in no inspection. */
  readonly identHash: string;
  /** The names of the states it has used so far. */
  readonly states: readonly string[];
  /** How many callers of this process are queued behind it. */
  readonly waiting: number;
}

/** The caller that has waited longest for a lock. */
export interface InspectedWaiter {
  /** Who waits: a handler, a label, or the name of a state. */
  readonly label: string;
  /** For how long, in milliseconds. */
  readonly waitedMs: number;
  /** A short hash of the ident it waits for. */
  readonly identHash: string;
}

/** What a manager does right now, in this process, and who has been at it for how long. */
export interface StateInspection extends StateStats {
  /** Turns that hold their lock, those that have held it longest first. */
  readonly turns: readonly InspectedTurn[];
  /** How long the first of them has held its lock, in milliseconds; 0 when there is none. */
  readonly longestHoldMs: number;
  /** Who has waited longest for a lock, where somebody waits. */
  readonly oldestWaiter: InspectedWaiter | undefined;
  /** How long that is, in milliseconds; 0 when nobody waits. */
  readonly oldestWaitMs: number;
}

/** The first `limit` of the open turns, which stand in the order in which they got their locks. */
export function longestTurns(
  open: DeadlineQueue<ManagedTurn>,
  mutex: KeyedMutex,
  nowMs: number,
  limit: number,
): InspectedTurn[] {
  const turns: InspectedTurn[] = [];
  for (const turn of open) {
    if (turns.length >= limit) break;
    turns.push({
      label: turn.handler,
      heldMs: nowMs - turn.openedAtMs,
      identHash: hashIdent(turn.ident),
      states: [...new Set(turn.usedStates.map(({ definition }) => definition.name))],
      waiting: mutex.waitingFor(turn.ident),
    });
  }
  return turns;
}

/** Whoever has waited longest: nobody keeps them in order, as that would be paid by each who waits. */
export function oldestWaiter(mutex: KeyedMutex, nowMs: number): InspectedWaiter | undefined {
  let oldest: ManagedTurn | undefined;
  let oldestMs = Infinity;
  for (const turn of mutex.foremost()) {
    if (!(turn instanceof ManagedTurn) || turn.waitsSinceMs === undefined) continue;
    // The lock of this process alone is not always enough: until the turn is open it waits for that of the store.
    if (DeadlineQueue.isQueued(turn) || turn.waitsSinceMs >= oldestMs) continue;
    oldest = turn;
    oldestMs = turn.waitsSinceMs;
  }
  if (oldest === undefined) return undefined;
  return { label: oldest.handler, waitedMs: nowMs - oldestMs, identHash: hashIdent(oldest.ident) };
}

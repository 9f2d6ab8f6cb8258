import { hashIdent } from '../internal/ident.js';
import { LockExpiredError, LockTimeoutError, TooManyWaitersError } from '../state.errors.js';
import type { ManagedTurn } from './managed-turn.js';

/** `turn` was not queued: `maxWaiters` callers are waiting already. */
export function tooManyWaiters(turn: ManagedTurn, maxWaiters: number): TooManyWaitersError {
  return new TooManyWaitersError(
    `${turn.description} was not locked: ${maxWaiters} callers are waiting for the lock of ident ` +
      `#${hashIdent(turn.ident)} already. Raise \`maxWaiters\` or make its turns shorter.`,
  );
}

/** `turn` has waited for `timeoutMs`; `holder` says who has the lock. */
export function lockTimeout(turn: ManagedTurn, timeoutMs: number, holder: string): LockTimeoutError {
  return new LockTimeoutError(
    `${turn.description} was not locked within ${timeoutMs} ms: the lock of ident #${hashIdent(turn.ident)} is ` +
      `${holder}. Raise \`acquireTimeout\` or make its turns shorter.`,
  );
}

/** `name` has waited for `timeoutMs` to be added to an open turn. */
export function additionTimeout(name: string, timeoutMs: number): LockTimeoutError {
  return new LockTimeoutError(
    `${name} was not locked within ${timeoutMs} ms: another call was adding locks to the same turn. Raise ` +
      '`acquireTimeout`, or name all idents in the outer call.',
  );
}

/** `turn` has held its lock for `maxHoldMs`. */
export function lockExpired(turn: ManagedTurn, maxHoldMs: number): LockExpiredError {
  return new LockExpiredError(
    `Lock for ${turn.description} was lost after ${maxHoldMs} ms. Raise \`maxHold\` or do the slow work outside the turn.`,
  );
}

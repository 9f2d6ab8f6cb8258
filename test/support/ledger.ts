import { expect } from '@jest/globals';
import type { Ledger, TurnRecord } from './manager-worker.js';

/** What the turns of one ident, taken by whichever processes, have in common with what is stored. */
export interface LedgerAccount {
  readonly stored: number;
  readonly acknowledged: number;
  /** Turns that ended without anybody knowing whether they are stored. */
  readonly unknown: number;
  readonly refused: number;
}

/**
 * Compares what processes were told with what is stored: every acknowledged turn is there, at its place and once; none
 * that was refused is; and turns that followed each other in time follow each other in the store.
 */
export function checkLedger(ident: string, ledger: Ledger, all: readonly TurnRecord[]): LedgerAccount {
  const records = all.filter((record) => record.ident === ident);
  const { count, entries } = ledger;
  const stored = new Set(entries);
  expect(entries).toHaveLength(count);
  expect(stored.size).toBe(count);

  const acknowledged = records.filter(({ outcome }) => outcome === 'stored');
  const misplaced = acknowledged.filter(({ id, value }) => entries[(value as number) - 1] !== id);
  expect(misplaced).toStrictEqual([]);

  const refused = records.filter(({ outcome }) => outcome === 'not stored');
  expect(refused.filter(({ id }) => stored.has(id))).toStrictEqual([]);

  // Sorted by value, no turn may have ended before one of a lower value began.
  const inOrder = [...acknowledged].sort((a, b) => (a.value as number) - (b.value as number));
  let latestStartMs = -Infinity;
  const outOfOrder = inOrder.filter(({ startMs, endMs }) => {
    latestStartMs = Math.max(latestStartMs, startMs);
    return endMs < latestStartMs;
  });
  expect(outOfOrder).toStrictEqual([]);

  return {
    stored: count,
    acknowledged: acknowledged.length,
    unknown: records.length - acknowledged.length - refused.length,
    refused: refused.length,
  };
}

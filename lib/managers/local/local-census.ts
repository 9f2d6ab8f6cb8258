import { setImmediate as nextLoopTurn } from 'node:timers/promises';
import { CensusTally, type StateCensus } from '../state-census.js';

/** How long one slice of the work may take, in milliseconds. */
const SLICE_MS = 2;
/** After so many idents the time is looked at. */
const LOOK_EVERY = 256;

export interface LocalCensusSource<E> {
  readonly entries: ReadonlyMap<string, E>;
  /** Calls `visit` with the name of each of its states. No list: it would be garbage, of which each ident had a share. */
  visitNames(entry: E, visit: (name: string) => void): void;
  /** `undefined` when that cannot be seen right now. */
  bytesOf(entry: E, name: string): number | undefined;
}

/**
 * Counts the states of all idents, and looks at the sizes of those of about `limit` idents, spread over all.
 *
 * Works in slices of a few milliseconds; what comes and goes meanwhile may be counted or not.
 */
export async function takeLocalCensus<E>(
  { entries, visitNames, bytesOf }: LocalCensusSource<E>,
  limit: number,
): Promise<StateCensus> {
  const tally = new CensusTally();
  const idents = entries.size;
  const stride = Math.max(1, Math.ceil(idents / Math.max(1, limit)));
  let entry: E;
  let isMeasured = false;
  const count = (name: string): void => tally.add(name, isMeasured ? bytesOf(entry, name) : undefined);
  let counted = 0;
  let measured = 0;
  let sliceEndMs = performance.now() + SLICE_MS;
  for (entry of entries.values()) {
    // With many that come in meanwhile it would never end.
    if (counted === idents) break;
    isMeasured = counted % stride === 0;
    visitNames(entry, count);
    counted += 1;
    if (isMeasured) measured += 1;
    if ((isMeasured || counted % LOOK_EVERY === 0) && performance.now() > sliceEndMs) {
      await nextLoopTurn();
      sliceEndMs = performance.now() + SLICE_MS;
    }
  }
  return { idents: counted, isEstimate: false, counted, measured, classes: tally.list() };
}

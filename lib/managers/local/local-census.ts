import { setImmediate as nextLoopTurn } from 'node:timers/promises';
import { CensusTally, type StateCensus } from '../state-census.js';

/** How long one slice of the work may take, in milliseconds. */
const SLICE_MS = 2;
/** After so many idents the time is looked at. */
const LOOK_EVERY = 256;

export interface LocalCensusSource<E> {
  readonly entries: ReadonlyMap<string, E>;
  namesOf(entry: E): readonly string[];
  /** `undefined` when that cannot be seen right now. */
  bytesOf(entry: E, name: string): number | undefined;
}

/**
 * Counts the states of all idents, and looks at the sizes of those of about `limit` idents, spread over all.
 *
 * Works in slices of a few milliseconds; what comes and goes meanwhile may be counted or not.
 */
export async function takeLocalCensus<E>(
  { entries, namesOf, bytesOf }: LocalCensusSource<E>,
  limit: number,
): Promise<StateCensus> {
  const tally = new CensusTally();
  const idents = entries.size;
  const stride = Math.max(1, Math.ceil(idents / Math.max(1, limit)));
  let counted = 0;
  let measured = 0;
  let sliceEndMs = performance.now() + SLICE_MS;
  for (const entry of entries.values()) {
    // With many that come in meanwhile it would never end.
    if (counted === idents) break;
    const isMeasured = counted % stride === 0;
    for (const name of namesOf(entry)) tally.add(name, isMeasured ? bytesOf(entry, name) : undefined);
    counted += 1;
    if (isMeasured) measured += 1;
    if ((isMeasured || counted % LOOK_EVERY === 0) && performance.now() > sliceEndMs) {
      await nextLoopTurn();
      sliceEndMs = performance.now() + SLICE_MS;
    }
  }
  return { idents: counted, isEstimate: false, counted, measured, classes: tally.list() };
}

import { isStateField } from '../held-states.js';
import { CensusTally, type StateCensus } from '../state-census.js';
import type { RedisConnection } from './redis-connection.js';
import { SIZES } from './redis-scripts.js';

/** How many idents are asked for at once: others' turns go out in between. */
const AT_ONCE = 32;

/**
 * Looks at the states of `limit` of the idents on the server: their classes and sizes, not what they hold.
 *
 * @param pattern What the keys of all states match. @param outerPrefix What the client puts before every key by itself.
 * @throws {StateStoreUnavailableError} when the server is silent, or does not let this user ask.
 */
export async function takeRedisCensus(
  connection: RedisConnection,
  pattern: string,
  outerPrefix: string,
  limit: number,
): Promise<StateCensus> {
  const { keys, total, isEstimate } = await connection.sampleKeys(pattern, limit);
  const tally = new CensusTally();
  let counted = 0;
  for (let first = 0; first < keys.length; first += AT_ONCE) {
    const asked = keys.slice(first, first + AT_ONCE).map((key) => key.slice(outerPrefix.length));
    const answers = await Promise.allSettled(asked.map((key) => connection.run(SIZES, [key])));
    for (const answer of answers) {
      if (answer.status === 'rejected') throw answer.reason;
      const fields = answer.value as readonly (Buffer | number)[];
      // Gone since it was found.
      if (fields.length > 0) counted += 1;
      for (let index = 0; index + 1 < fields.length; index += 2) {
        const name = String(fields[index]);
        if (isStateField(name)) tally.add(name, fields[index + 1] as number);
      }
    }
  }
  return { idents: total, isEstimate, counted, measured: counted, classes: tally.list() };
}

// How variants are compared: in turns, round after round, so that whatever else the machine does hits all of them.
import { cpuMs } from './support/machine.mjs';
import { gainOver, median, spreadOf } from './support/figures.mjs';

/**
 * One way to do the work of a job.
 *
 * @typedef {object} Variant
 * @property {string} name
 * @property {(count: number) => Promise<void>} run Does the work that many times.
 * @property {() => number | Promise<number>} [total] How many increments are stored; compared with how many were made.
 */

/**
 * What came out of it for one variant.
 *
 * @typedef {object} Outcome
 * @property {string} name
 * @property {number} perSecond The median of the rounds.
 * @property {number} ratio Ours over this one: the median of what the two had in the same round.
 * @property {number} spread Half of the range of the middle half of the rounds, as a share of the median.
 * @property {number} cpuMicros The processor time of this process for each, in microseconds.
 */

/** How long rounds are, and how many. */
export function effort(isQuick) {
  return isQuick ? { rounds: 2, sliceMs: 60, warmUpMs: 150 } : { rounds: 9, sliceMs: 400, warmUpMs: 1_500 };
}

/** An update that was acknowledged and is not there: the one result that no speed makes up for. */
export class LostUpdateError extends Error {
  constructor(variant, made, stored) {
    super(`${variant}: ${made} increments were made, and ${stored} are stored.`);
    this.name = 'LostUpdateError';
  }
}

/**
 * Runs the variants in turns; the first one is ours.
 *
 * @param {readonly Variant[]} variants
 * @param {{ rounds: number, sliceMs: number, warmUpMs: number, warmUpCount?: number }} effortOfRun
 * @returns {Promise<Outcome[]>}
 */
export async function compare(variants, { rounds, ...effortOfEach }) {
  const runs = variants.map((variant) => ({ variant, count: 0, made: 0, rates: [], costs: [] }));
  for (const run of runs) await warmUp(run, effortOfEach);
  // What lives long is old by now in a process that has run for a while, and old is slower in places: a Map that is old
  // takes its tables from old space each time it grows or shrinks.
  globalThis.gc?.();
  // The first round is not counted: code that was compiled for one variant may have to be compiled again for the next.
  for (let round = 0; round <= rounds; round += 1) {
    for (const run of rotated(runs, round)) {
      const { perSecond, cpuMicros } = await slice(run);
      if (round === 0) continue;
      run.rates.push(perSecond);
      run.costs.push(cpuMicros);
    }
  }
  for (const { variant, made } of runs) await assertNothingLost(variant, made);
  const [ours] = runs;
  return runs.map(({ variant, rates, costs }) => ({
    name: variant.name,
    perSecond: median(rates),
    ratio: gainOver(ours.rates, rates),
    spread: spreadOf(rates),
    cpuMicros: median(costs),
  }));
}

/** The items, each time beginning with another one, so that none always comes after the same neighbour. */
export function rotated(items, round) {
  const start = round % items.length;
  return [...items.slice(start), ...items.slice(0, start)];
}

/**
 * Until it has had its time of the processor, and was done often enough: on a busy machine the clock says little about
 * what has been compiled.
 */
async function warmUp(run, { warmUpMs, warmUpCount = 0, sliceMs }) {
  const untilCpuMs = cpuMs() + warmUpMs;
  let count = 8;
  while (cpuMs() < untilCpuMs || run.made < warmUpCount) {
    const startMs = performance.now();
    await run.variant.run(count);
    const tookMs = performance.now() - startMs;
    run.made += count;
    run.count = Math.max(1, Math.round((count * sliceMs) / tookMs));
    count = Math.min(count * 2, run.count);
  }
}

async function slice(run) {
  // What one variant leaves behind is not for the next one to clean up.
  globalThis.gc?.({ type: 'minor' });
  const startCpuMs = cpuMs();
  const startMs = performance.now();
  await run.variant.run(run.count);
  const tookMs = performance.now() - startMs;
  run.made += run.count;
  return {
    perSecond: (run.count / tookMs) * 1_000,
    cpuMicros: ((cpuMs() - startCpuMs) / run.count) * 1_000,
  };
}

async function assertNothingLost({ name, total }, made) {
  if (total === undefined) return;
  const stored = await total();
  if (stored !== made) throw new LostUpdateError(name, made, stored);
}

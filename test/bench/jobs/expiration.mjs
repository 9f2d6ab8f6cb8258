import { rotated } from '../harness.mjs';
import { EXPIRATIONS } from '../peers/expiration.mjs';
import { Child } from '../support/child.mjs';
import { gainOver, median, spreadOf } from '../support/figures.mjs';
import { atLeast, atMost, bytes, count, milliseconds, percent, ratio } from '../support/report.mjs';

const NAMES = Object.keys(EXPIRATIONS);

export const title = 'Expiration: a touch, and a wake with 1 % due';

export async function run({ isQuick }) {
  const sizes = isQuick ? [10_000] : [10_000, 100_000, 1_000_000];
  const rounds = isQuick ? 1 : 4;
  const tables = [];
  const goals = [];
  for (const size of sizes) {
    // So many touches at least take long enough to be measured.
    const touches = Math.max(size, isQuick ? 100_000 : 500_000);
    const measured = await measure(size, rounds, touches);
    tables.push(tableOf(size, measured));
    goals.push(...goalsOf(size, measured));
  }
  return { tables, goals };
}

/** Each of them in a process of its own: what one keeps, and drops, is not for the other's garbage collector. */
async function measure(size, rounds, touches) {
  const measured = [];
  try {
    for (const name of NAMES) {
      const child = await Child.start('expiration.mjs', name, size);
      measured.push({ name, child, rates: [], blocks: [], bytes: await child.call('bytesEach') });
    }
    for (let round = 0; round <= rounds; round += 1) {
      for (const { child, rates, blocks } of rotated(measured, round)) {
        const tookMs = await child.call('touch', touches);
        const blockMs = await child.call('wake');
        if (round === 0) continue;
        rates.push((touches / tookMs) * 1_000);
        blocks.push(blockMs);
      }
    }
    return measured;
  } finally {
    await Promise.all(measured.map(({ child }) => child.stop()));
  }
}

function tableOf(size, measured) {
  const [ours] = measured;
  return {
    title: `${count(size)} idents`,
    columns: [
      'variant',
      'touches/s',
      'ours ÷ variant',
      'spread',
      'longest block of a wake',
      'variant ÷ ours',
      'spread ',
      'bytes per ident',
    ],
    rows: measured.map((each) => [
      each.name,
      count(median(each.rates)),
      each === ours ? '' : ratio(gainOver(ours.rates, each.rates)),
      `±${percent(spreadOf(each.rates))}`,
      milliseconds(median(each.blocks)),
      each === ours ? '' : ratio(gainOver(each.blocks, ours.blocks)),
      `±${percent(spreadOf(each.blocks))}`,
      bytes(each.bytes),
    ]),
  };
}

function goalsOf(size, [ours, ...others]) {
  const at = `${count(size)} idents`;
  const fastest = others.toSorted((one, other) => median(other.rates) - median(one.rates))[0];
  const shortest = others.toSorted((one, other) => median(one.blocks) - median(other.blocks))[0];
  const scan = others.find(({ name }) => name === 'scan of all');
  const goals = [
    atLeast(
      `${at}, touches, over the best other one (${fastest.name})`,
      gainOver(ours.rates, fastest.rates),
      1 / 1.2,
    ),
    atMost(
      `${at}, block, over the best other one (${shortest.name})`,
      gainOver(ours.blocks, shortest.blocks),
      1.2,
    ),
    atMost(`${at}, bytes per ident besides ident and state`, ours.bytes, 200, bytes),
  ];
  if (size === 1_000_000)
    goals.push(atLeast(`${at}, less block than a scan of all`, gainOver(scan.blocks, ours.blocks), 8));
  return goals;
}

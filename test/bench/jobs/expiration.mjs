import { rotated } from '../harness.mjs';
import { EXPIRATIONS } from '../peers/expiration.mjs';
import { Child } from '../support/child.mjs';
import { gainOver, median, spreadOf } from '../support/figures.mjs';
import { atLeast, atMost, bytes, count, milliseconds, percent, ratio } from '../support/report.mjs';

const NAMES = Object.keys(EXPIRATIONS);

export const title = 'Expiration: a touch, and a wake with 1 % due';

export async function run({ isQuick }) {
  const sizes = isQuick ? [10_000] : [10_000, 100_000, 1_000_000];
  const effort = isQuick
    ? { touchRounds: 1, touches: 100_000, wakes: 1 }
    : // Short ones, because the pace of a shared machine changes; a wake takes too long for many of them.
      { touchRounds: 24, touches: 250_000, wakes: 4 };
  const tables = [];
  const goals = [];
  for (const size of sizes) {
    const measured = await measure(size, effort);
    tables.push(tableOf(size, measured));
    goals.push(...goalsOf(size, measured));
  }
  return { tables, goals };
}

/** Each of them in a process of its own: what one keeps, and drops, is not for the other's garbage collector. */
async function measure(size, { touchRounds, touches, wakes }) {
  const measured = [];
  try {
    for (const name of NAMES) {
      const child = await Child.start('expiration.mjs', name, size);
      measured.push({ name, child, rates: [], blocks: [], bytes: await child.call('bytesEach') });
    }
    for (let round = 0; round <= touchRounds; round += 1) {
      for (const { child, rates } of rotated(measured, round)) {
        const tookMs = await child.call('touch', touches);
        if (round > 0) rates.push((touches / tookMs) * 1_000);
      }
    }
    for (let round = 0; round <= wakes; round += 1) {
      for (const { child, blocks } of rotated(measured, round)) {
        // None of them may be due already.
        await child.call('touch', size);
        const blockMs = await child.call('wake');
        if (round > 0) blocks.push(blockMs);
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

import { LostUpdateError, rotated } from '../harness.mjs';
import { Child } from '../support/child.mjs';
import { gainOver, median, quantile, spreadOf, sum } from '../support/figures.mjs';
import { atLeast, atMost, count, milliseconds, percent, ratio } from '../support/report.mjs';

const PROCESSES = 2;
const TASKS = 16;
const VARIANTS = {
  ours: 'nestjs-state',
  wakeUps: 'wake-up, one commit per turn',
  redlock: "redlock's retries + GET + SET",
};

export const title = `Redis turn, ${PROCESSES} processes × ${TASKS} tasks on one ident`;

export async function run({ isQuick, redis }) {
  const rounds = isQuick ? 2 : 7;
  const durationMs = isQuick ? 300 : 2_500;
  const children = [];
  try {
    for (let number = 0; number < PROCESSES; number += 1)
      children.push(await Child.start('redis-contended.mjs', { url: redis.url, tasks: TASKS }));
    const measured = Object.entries(VARIANTS).map(([variant, name]) => ({
      variant,
      name,
      made: 0,
      rounds: [],
    }));
    for (let round = 0; round <= rounds; round += 1) {
      for (const each of rotated(measured, round)) {
        const result = await runRound(children, each.variant, durationMs);
        each.made += result.made;
        if (round > 0) each.rounds.push(result);
      }
    }
    for (const { variant, name, made } of measured) {
      const total = await children[0].call('total', variant);
      if (total !== made) throw new LostUpdateError(name, made, total);
    }
    return reportOf(measured);
  } finally {
    await Promise.all(children.map((child) => child.stop()));
  }
}

async function runRound(children, variant, durationMs) {
  const startAtMs = Date.now() + 50;
  const results = await Promise.all(
    children.map((child) => child.call('round', variant, startAtMs, durationMs)),
  );
  const turns = results.flatMap((result) => result.turns);
  const made = sum(turns);
  const waits = merged(results.map((result) => result.waits));
  const answers = merged(results.map((result) => result.answers));
  return {
    made,
    // Some tasks may still wait when the time is up: what they get then takes longer than the round.
    perSecond: (made / Math.max(...results.map(({ tookMs }) => tookMs))) * 1_000,
    wait99Ms: quantile(waits, 0.99),
    longestWaitMs: quantile(waits, 1),
    answer99Ms: quantile(answers, 0.99),
    longestAnswerMs: quantile(answers, 1),
    fairness: Math.min(...turns) / Math.max(...turns),
  };
}

function merged(arrays) {
  const all = new Float64Array(sum(arrays.map(({ length }) => length)));
  let start = 0;
  for (const array of arrays) {
    all.set(array, start);
    start += array.length;
  }
  return all;
}

function rates({ rounds }) {
  return rounds.map(({ perSecond }) => perSecond);
}

function figure({ rounds }, key) {
  return median(rounds.map((round) => round[key]));
}

function reportOf(measured) {
  const [ours, wakeUps, redlock] = measured;
  return {
    tables: [
      {
        columns: [
          'variant',
          'turns/s',
          'ours ÷ variant',
          'spread',
          'p99 wait',
          'longest wait',
          'p99 answer',
          'longest answer',
          'slowest ÷ fastest task',
        ],
        rows: measured.map((each) => [
          each.name,
          count(median(rates(each))),
          each === ours ? '' : ratio(gainOver(rates(ours), rates(each))),
          `±${percent(spreadOf(rates(each)))}`,
          milliseconds(figure(each, 'wait99Ms')),
          milliseconds(figure(each, 'longestWaitMs')),
          milliseconds(figure(each, 'answer99Ms')),
          milliseconds(figure(each, 'longestAnswerMs')),
          ratio(figure(each, 'fairness')),
        ]),
      },
    ],
    goals: [
      atLeast("over redlock's retries", gainOver(rates(ours), rates(redlock)), 10),
      atLeast('over a wake-up with one commit per turn', gainOver(rates(ours), rates(wakeUps)), 5),
      atMost('longest wait for an answer', figure(ours, 'longestAnswerMs'), 50, milliseconds),
      atLeast('turns of the slowest task, of those of the fastest', figure(ours, 'fairness'), 0.9),
    ],
  };
}

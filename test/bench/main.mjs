// npm run bench [-- --quick] [--only memory-turn,redis-turn] [--write] [--node path/to/another/node]
import { readFile, writeFile } from 'node:fs/promises';
import { performance } from 'node:perf_hooks';
import { parseArgs } from 'node:util';
import { format, resolveConfig } from 'prettier';
import { describeMachine } from './support/machine.mjs';
import { BenchRedis } from './support/redis-server.mjs';
import { render } from './support/report.mjs';

const JOBS = [
  'memory-turn',
  'memory-contended',
  'expiration',
  'http',
  'redis-turn',
  'redis-contended',
  'state-size',
];
const PAGE = new URL('../../BENCHMARKS.md', import.meta.url);
const RESULTS = /(?<=<!-- results -->\n).*(?=<!-- \/results -->)/s;

const { values } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    only: { type: 'string', default: JOBS.join(',') },
    write: { type: 'boolean', default: false },
    node: { type: 'string', multiple: true, default: [] },
  },
});
const names = values.only.split(',').map(nameOf);

const startMs = performance.now();
const redis = await BenchRedis.start();
const pages = [];
try {
  print(await describeMachine(redis, values.quick));
  for (const name of names) {
    const { title, run } = await import(`./jobs/${name}.mjs`);
    process.stderr.write(`… ${title}\n`);
    const jobStartMs = performance.now();
    try {
      print(render(title, await run({ isQuick: values.quick, redis, otherNodes: values.node })));
      process.stderr.write(`  ${secondsSince(jobStartMs)} s\n`);
    } catch (error) {
      // The other jobs may still say something; but this run has failed.
      process.exitCode = 1;
      process.stderr.write(`${name} failed: ${error.stack}\n`);
    }
  }
} finally {
  await redis.stop();
}
process.stderr.write(`${secondsSince(startMs)} s in all\n`);
if (values.write && process.exitCode === undefined) await writePage();
// Whatever a job that failed has left open is not waited for.
process.exit();

/** A job by its name or its number. */
function nameOf(text) {
  const name = JOBS[Number(text) - 1] ?? text;
  if (!JOBS.includes(name)) throw new Error(`--only: there is no job ${text}, only ${JOBS.join(', ')}.`);
  return name;
}

function secondsSince(earlierMs) {
  return Math.round((performance.now() - earlierMs) / 1_000);
}

function print(text) {
  pages.push(text);
  process.stdout.write(`${text}\n\n`);
}

/** Puts the results of a whole run into the page. */
async function writePage() {
  if (names.length < JOBS.length) throw new Error('--write is for a run of all jobs.');
  const page = await readFile(PAGE, 'utf8');
  const results = page.replace(RESULTS, () => `\n${pages.join('\n\n')}\n\n`);
  await writeFile(PAGE, await format(results, { ...(await resolveConfig(PAGE)), parser: 'markdown' }));
}

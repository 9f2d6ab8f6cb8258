// npm run soak [-- --minutes 5]
//
// Mixed work on all managers for minutes, with everything that goes wrong in production. Afterwards nothing may be left:
// no entry, timer, handle, waiter, key or heap that was not there after the same work of a few seconds.
import { liveTimers } from './support/live-timers.mjs';
import { performance } from 'node:perf_hooks';
import { setImmediate as nextLoop, setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { StateToken } from 'nestjs-state';
import { BenchRedis } from './support/redis-server.mjs';
import { openStates, visit, VisitorState } from './support/states.mjs';

const TASKS = 8;
const WARM_UP_MS = 10_000;
const PROGRESS_MS = 5_000;
const EXPIRATION_MS = 3_000;
const MAX_HOLD_MS = 250;
/** How long it may take until everything is gone that was in use. */
const PATIENCE_MS = EXPIRATION_MS + 12_000;
/** What the heap may have grown by, in bytes: a leak of a few bytes a turn is beyond it in a minute. */
const HEAP_SLACK = 4 * 2 ** 20;
/** Errors that say that nothing was stored. */
const STORES_NOTHING = new Set([
  'STATE_LOCK_TIMEOUT',
  'STATE_TOO_MANY_WAITERS',
  'STATE_LOCK_EXPIRED',
  'ABORT_ERR',
  'OWN',
]);

const { values } = parseArgs({ options: { minutes: { type: 'string', default: '3' } } });
const soakMs = Number(values.minutes) * 60_000;
if (!(soakMs > 0)) throw new Error('--minutes: give a number of minutes.');

const redis = await BenchRedis.start();
const admin = redis.connect();
await admin.ping();
// Their pipes count too, from the first use on.
process.stdout.write('');
process.stderr.write('');
const before = resources();

/** Two managers on each store of Redis stand for two processes: what one gives up the other gets. */
const subjects = [];
const counters = { turns: 0, reads: 0, errors: new Map(), events: new Map(), disconnects: 0, stolen: 0 };
/** What is known of idents that are used all the time: acknowledged increments, and those that may be stored. */
const hot = new Map();
let passing = 0;

async function open(name, options) {
  const times = {
    expiration: EXPIRATION_MS,
    lockExpiration: 2_000,
    maxHold: MAX_HOLD_MS,
    acquireTimeout: 5_000,
  };
  // Everything that can be said of trouble would be said here.
  const { states, close } = await openStates({ ...options, ...times, maxWaiters: 20 }, false);
  states.events$.subscribe(({ type }) => add(counters.events, type));
  subjects.push({ name, states, close });
}

/** Keeps all managers busy. */
async function work(durationMs, what) {
  const endMs = performance.now() + durationMs;
  hot.clear();
  const tasks = subjects.flatMap((subject) => Array.from({ length: TASKS }, () => task(subject, endMs)));
  await Promise.all([...tasks, trouble(endMs), progress(endMs, what)]);
  await assertNothingLost();
}

async function task(subject, endMs) {
  while (performance.now() < endMs) {
    const action = pick();
    try {
      await action(subject);
    } catch (error) {
      const code = error?.code ?? error?.name ?? 'unknown';
      add(counters.errors, code);
      // Whoever is told at once that nothing goes would only ask again at once.
      if (!STORES_NOTHING.has(code)) await delay(20);
    }
    await nextLoop();
  }
}

/** What tasks do, and how often. */
const ACTIONS = [
  [30, increment],
  [15, visitOnce],
  [20, read],
  [5, join],
  [5, fail],
  [5, abortWhileWaiting],
  [3, abortInside],
  [3, giveUpSoon],
  [5, rollBack],
  [5, forget],
  [1, crowd],
  [0.05, holdForTooLong],
];
const WEIGHT = ACTIONS.reduce((total, [weight]) => total + weight, 0);

function pick() {
  let at = Math.random() * WEIGHT;
  for (const [weight, action] of ACTIONS) if ((at -= weight) < 0) return action;
  return increment;
}

/** Idents that never rest, few enough to be contended. */
function hotIdent({ name }) {
  return `${name}-hot-${Math.floor(Math.random() * 6)}`;
}

/** Idents that come once and are left to expire. */
function passingIdent() {
  passing += 1;
  return `passing-${passing}`;
}

function increment(subject) {
  return hotTurn(subject, visit);
}

/** A turn whose outcome is kept account of. */
async function hotTurn(subject, mutate, options) {
  const ident = hotIdent(subject);
  const account = hot.get(ident) ?? { acknowledged: 0, unknown: 0, subject };
  hot.set(ident, account);
  try {
    await subject.states.modifyState(new StateToken(ident, VisitorState), mutate, options);
    account.acknowledged += 1;
    counters.turns += 1;
  } catch (error) {
    if (!STORES_NOTHING.has(error?.code)) account.unknown += 1;
    throw error;
  }
}

async function visitOnce({ states }) {
  const token = new StateToken(passingIdent(), VisitorState);
  await states.modifyState(token, visit);
  counters.turns += 1;
  if (Math.random() < 0.5) await states.getState(token);
}

async function read(subject) {
  await subject.states.getState(new StateToken(hotIdent(subject), VisitorState));
  counters.reads += 1;
}

function join(subject) {
  return hotTurn(subject, async (_state, turn) => {
    await subject.states.modifyState(new StateToken(turn.ident, VisitorState), visit);
    await nextLoop();
  });
}

function fail(subject) {
  return hotTurn(subject, (state) => {
    state.count += 1_000_000;
    throw Object.assign(new Error('of its own'), { code: 'OWN' });
  });
}

async function abortWhileWaiting(subject) {
  const controller = new AbortController();
  const turn = hotTurn(subject, visit, { signal: controller.signal });
  setImmediate(() => controller.abort());
  await turn.catch(rethrowUnlessAborted);
}

async function abortInside(subject) {
  const controller = new AbortController();
  await hotTurn(
    subject,
    async (state) => {
      state.count += 1_000_000;
      controller.abort();
    },
    { signal: controller.signal },
  ).catch(rethrowUnlessAborted);
}

function rethrowUnlessAborted(error) {
  add(counters.errors, error?.code === 20 ? 'ABORT_ERR' : (error?.code ?? 'unknown'));
}

function giveUpSoon(subject) {
  return hotTurn(subject, visit, { acquireTimeout: Math.random() * 3 });
}

async function rollBack(subject) {
  const turn = await subject.states.openTurn(hotIdent(subject));
  const state = await turn.state(VisitorState);
  state.count += 1_000_000;
  await turn.rollback();
}

async function forget({ states }) {
  const ident = passingIdent();
  await states.modifyState(new StateToken(ident, VisitorState), visit);
  await states.deleteState(ident);
}

/** More than may wait. */
async function crowd(subject) {
  const token = new StateToken(passingIdent(), VisitorState);
  const turns = Array.from({ length: 30 }, () =>
    subject.states.modifyState(token, async (state) => {
      await nextLoop();
      visit(state);
    }),
  );
  for (const { reason } of await Promise.allSettled(turns)) if (reason) add(counters.errors, reason.code);
}

async function holdForTooLong({ states }) {
  await states.modifyState(new StateToken(passingIdent(), VisitorState), async (state) => {
    visit(state);
    await delay(MAX_HOLD_MS * 1.5);
  });
}

/** What happens to a server and its connections. */
async function trouble(endMs) {
  for (let number = 0; performance.now() < endMs - 2_000; number += 1) {
    await delay(500 + Math.random() * 1_500);
    if (number % 2 === 0) {
      const type = number % 4 === 0 ? 'normal' : 'pubsub';
      counters.disconnects += await admin.call('CLIENT', 'KILL', 'TYPE', type, 'SKIPME', 'yes');
    } else {
      // Under a lease a stolen lock costs what was acknowledged, and says so: only those without one are robbed.
      const locks = await admin.keys('redis:*:lock');
      for (const lock of locks.slice(0, 3)) counters.stolen += await admin.del(lock);
    }
  }
}

async function progress(endMs, what) {
  const startMs = performance.now();
  const startTurns = counters.turns;
  while (performance.now() < endMs) {
    await delay(Math.min(PROGRESS_MS, Math.max(0, endMs - performance.now())));
    const seconds = (performance.now() - startMs) / 1_000;
    const perSecond = Math.round((counters.turns - startTurns) / seconds);
    const megabytes = (process.memoryUsage().heapUsed / 2 ** 20).toFixed(0);
    process.stdout.write(
      `${what} ${seconds.toFixed(0).padStart(4)} s: ${counters.turns} turns (${perSecond}/s), ${counters.reads} reads, ` +
        `${counters.disconnects} disconnects, ${counters.stolen} locks stolen, heap ${megabytes} MB, ${liveTimers()} timers\n`,
    );
  }
  process.stdout.write(`  errors: ${show(counters.errors)}\n  events: ${show(counters.events)}\n`);
}

/** Every acknowledged increment is stored, and nothing that was not made. */
async function assertNothingLost() {
  // What a process still holds back under its lease is stored after this.
  for (const { states } of subjects) await states.count();
  for (const [ident, { acknowledged, unknown, subject }] of hot) {
    const token = new StateToken(ident, VisitorState);
    const isRight = (count) => count >= acknowledged && count <= acknowledged + unknown;
    let { count } = await subject.states.getState(token);
    // What was on its way when a connection was lost is sent again.
    for (let look = 0; look < 10 && !isRight(count); look += 1) {
      await delay(150);
      ({ count } = await subject.states.getState(token));
    }
    if (isRight(count)) continue;
    throw new Error(
      `${ident}: ${acknowledged} increments were acknowledged, ${unknown} may be stored, and ${count} are.`,
    );
  }
}

/** Waits until everything has expired, and tells what is there then. */
async function rest() {
  hot.clear();
  const untilMs = performance.now() + PATIENCE_MS;
  let left = await remaining();
  while (performance.now() < untilMs && Object.values(left).some((count) => count > 0)) {
    await delay(250);
    left = await remaining();
  }
  return { ...left, ...resources(), timers: liveTimers(), heap: heapUsed() };
}

async function remaining() {
  const left = { openTurns: 0, waiting: 0, states: 0, keys: await admin.dbsize() };
  for (const { states } of subjects) {
    const stats = states.stats();
    left.openTurns += stats.openTurns;
    left.waiting += stats.waiting;
    left.states += stats.states ?? 0;
  }
  return left;
}

/** What keeps the process alive, by kind. */
function resources() {
  const kinds = {};
  for (const kind of process.getActiveResourcesInfo()) kinds[kind] = (kinds[kind] ?? 0) + 1;
  return kinds;
}

function heapUsed() {
  // Twice: what was finalised in the first run is freed in the second.
  globalThis.gc();
  globalThis.gc();
  return process.memoryUsage().heapUsed;
}

/** What there is more of than there was. */
function difference(baseline, after) {
  const left = [];
  for (const [what, count] of Object.entries(after)) {
    const allowed = what === 'heap' ? baseline.heap + HEAP_SLACK : (baseline[what] ?? 0);
    if (count > allowed) left.push(`${what}: ${count}, and ${baseline[what] ?? 0} before`);
  }
  for (const what of ['openTurns', 'waiting', 'states', 'keys'])
    if (after[what] > 0) left.push(`${what}: ${after[what]} at rest`);
  return left;
}

async function leftAfterClose() {
  // Sockets say goodbye.
  await delay(500);
  const left = [];
  const after = resources();
  for (const [kind, count] of Object.entries(after))
    if (count > (before[kind] ?? 0))
      left.push(`${kind} after close: ${count}, and ${before[kind] ?? 0} before`);
  if (liveTimers() > 0) left.push(`timers after close: ${liveTimers()}`);
  return left;
}

function report(left) {
  if (left.length === 0) {
    process.stdout.write('Nothing is left.\n');
    return;
  }
  process.exitCode = 1;
  process.stdout.write(`Left behind:\n${left.map((line) => `- ${line}`).join('\n')}\n`);
}

function add(counts, name) {
  counts.set(name, (counts.get(name) ?? 0) + 1);
}

function show(counts) {
  return [...counts].map(([name, count]) => `${name} ${count}`).join(', ') || '–';
}

try {
  await open('memory', { mode: 'memory' });
  for (const name of ['redis', 'leased']) {
    const leaseHold = name === 'leased' ? 40 : 0;
    const options = { mode: 'redis', redis: { url: redis.url, keyPrefix: `${name}:`, leaseHold } };
    await open(name, options);
    await open(name, options);
  }
  await work(WARM_UP_MS, 'warming up');
  const baseline = await rest();
  process.stdout.write(`baseline  ${JSON.stringify(baseline)}\n`);
  await work(soakMs, 'soaking');
  const after = await rest();
  process.stdout.write(`after     ${JSON.stringify(after)}\n`);
  const left = difference(baseline, after);
  for (const { close } of subjects) await close();
  left.push(...(await leftAfterClose()));
  report(left);
} finally {
  await redis.stop();
}

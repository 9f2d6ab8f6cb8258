import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it } from '@jest/globals';
import { StateToken, type StateModuleOptions } from 'nestjs-state';
import { checkLedger, type LedgerAccount } from '../support/ledger.js';
import { until } from '../support/redis-server.js';
import type { ManagerWorker, TurnRecord, WorkerRun } from '../support/manager-worker.js';
import { LedgerState } from '../support/manager-worker.states.js';
import { TestRedis } from '../support/test-redis.js';

const PROCESSES = 4;
const TASKS = 8;
const LEASE_MS = 800;

const store = TestRedis.forFile({ persistent: true });

function startWorkers(count: number, options: StateModuleOptions = {}): Promise<ManagerWorker[]> {
  return Promise.all(
    Array.from({ length: count }, (_, number) =>
      store.startWorker(`w${number}`, {
        lockExpiration: LEASE_MS,
        lockWarningThreshold: 500,
        acquireTimeout: '20s',
        ...options,
      }),
    ),
  );
}

interface Turmoil {
  readonly options?: StateModuleOptions;
  readonly run?: Partial<WorkerRun>;
  /** So many turns are acknowledged in the end, however long a busy machine takes for them. */
  readonly atLeast: number;
  /** What happens while all processes take their turns. */
  readonly happens: (running: readonly ManagerWorker[]) => Promise<void>;
}

/** Lets processes take turns on a few idents while something happens, and compares all they were told with the store. */
async function accountOf({ options, run, atLeast, happens }: Turmoil): Promise<LedgerAccount[]> {
  const idents = [1, 2, 3].map(() => `ident-${randomUUID()}`);
  const running = await startWorkers(PROCESSES, options);
  const runs = running.map((worker) =>
    worker.run({ tasks: TASKS, idents, restMs: 2, ...run }).catch((error: unknown) => error),
  );
  await happens(running);
  const acknowledged = () =>
    running.flatMap((worker) => worker.records).filter(({ outcome }) => outcome === 'stored').length;
  await until(`${atLeast} turns are acknowledged`, async () => acknowledged() > atLeast, 30_000);
  await Promise.all(running.map((worker) => worker.stop().catch(() => undefined)));
  await Promise.all(runs);
  const records: TurnRecord[] = running.flatMap((worker) => worker.records);
  await Promise.all(running.map((worker) => worker.close().catch(() => undefined)));

  const reader = await store.open(options);
  const accounts: LedgerAccount[] = [];
  for (const ident of idents)
    accounts.push(checkLedger(ident, await reader.getState(new StateToken(ident, LedgerState)), records));
  // A lock that was on its way to a process which had ended by then has its time to run out.
  await until('no lock is left', async () => (await store.lockKeys()).length === 0, LEASE_MS + 1_000);
  return accounts;
}

const sum = (accounts: readonly LedgerAccount[], of: keyof LedgerAccount): number =>
  accounts.reduce((total, account) => total + account[of], 0);

describe('four processes with eight tasks each on shared idents', () => {
  it('store every acknowledged turn, once and in order, while one process is killed', async () => {
    const accounts = await accountOf({
      atLeast: 500,
      happens: async ([first]) => {
        await delay(800);
        await first?.kill();
        await delay(LEASE_MS + 400);
      },
    });

    expect(sum(accounts, 'unknown') + sum(accounts, 'refused')).toBe(0);
    // What the killed process had under way when it died was stored without its knowing, or was not.
    expect(sum(accounts, 'stored') - sum(accounts, 'acknowledged')).toBeLessThanOrEqual(TASKS);
  }, 180_000);

  it('store every acknowledged turn, once and in order, while turns take their time and one process is killed', async () => {
    const accounts = await accountOf({
      atLeast: 100,
      run: { workMs: 20 },
      happens: async ([first]) => {
        await delay(800);
        await first?.kill();
        await delay(LEASE_MS + 400);
      },
    });

    expect(sum(accounts, 'unknown') + sum(accounts, 'refused')).toBe(0);
    expect(sum(accounts, 'stored') - sum(accounts, 'acknowledged')).toBeLessThanOrEqual(TASKS);
  }, 180_000);

  it('store every acknowledged turn, once and in order, while processes are stopped for longer than a lease', async () => {
    const accounts = await accountOf({
      atLeast: 300,
      run: { workMs: 5 },
      happens: async (running) => {
        for (let round = 0; round < 4; round += 1) {
          const worker = running[round % running.length] as ManagerWorker;
          await delay(Math.random() * 300);
          worker.pause();
          await delay(1_000 + Math.random() * 500);
          worker.resume();
        }
      },
    });

    expect(sum(accounts, 'stored')).toBeGreaterThanOrEqual(sum(accounts, 'acknowledged'));
  }, 180_000);

  it('store every acknowledged turn, once and in order, while connections are killed', async () => {
    const accounts = await accountOf({
      atLeast: 100,
      happens: async () => {
        for (let round = 0; round < 25; round += 1) {
          await delay(Math.random() * 200);
          await store.server.killClients(round % 3 === 0 ? 'pubsub' : 'normal');
        }
      },
    });

    expect(sum(accounts, 'refused')).toBe(0);
  }, 180_000);

  it('store every acknowledged turn, once and in order, while a server with persistence is killed and restarted', async () => {
    await accountOf({
      atLeast: 100,
      happens: async () => {
        for (let round = 0; round < 3; round += 1) {
          await delay(500 + Math.random() * 200);
          await store.server.kill();
          await delay(100 + Math.random() * 300);
          await store.server.restart();
        }
        await delay(1_000);
      },
    });
  }, 180_000);

  it('store every acknowledged turn, once and in order, while the server stands still', async () => {
    await accountOf({
      atLeast: 100,
      options: { redis: { commandTimeout: 300 } },
      happens: async () => {
        for (let round = 0; round < 4; round += 1) {
          await delay(200 + Math.random() * 200);
          store.server.pause();
          await delay(round % 2 === 0 ? 150 : 900);
          store.server.resume();
        }
        await delay(1_500);
      },
    });
  }, 180_000);

  it('store every turn that outlives leaseHold, once and in order', async () => {
    const accounts = await accountOf({
      atLeast: 500,
      options: { redis: { leaseHold: 100 } },
      happens: () => delay(1_000),
    });

    expect(sum(accounts, 'stored')).toBe(sum(accounts, 'acknowledged'));
  }, 180_000);
});

describe('the turns of one ident that four processes want', () => {
  it('are shared fairly: no process gets less than half of its share in ten seconds', async () => {
    const ident = `ident-${randomUUID()}`;
    const running = await startWorkers(PROCESSES);
    const runs = running.map((worker) =>
      worker.run({ tasks: TASKS, idents: [ident], keepsEntries: false, reportsLast: true }),
    );
    await delay(10_000);
    await Promise.all(running.map((worker) => worker.stop()));
    await Promise.all(runs);
    const counts = running.map(({ records }) => records.length);
    const total = counts.reduce((all, count) => all + count, 0);

    expect(Math.min(...counts)).toBeGreaterThan(total / PROCESSES / 2);
    expect((await (running[0] as ManagerWorker).read(ident)).count).toBe(total);
    console.log(`turns per process in 10 s: ${counts.join(', ')}`);
  }, 180_000);

  it('wait for nobody who need not be waited for: two processes, ten tasks each, 600 turns', async () => {
    const running = await startWorkers(2);
    const rounds: Waits[] = [];
    // The best of a few, so that a machine that stands still, or does something else, for a moment does not count; and
    // where it does so all the time, what counts is how long it takes meanwhile to answer at all.
    while (rounds.length < 10 && !rounds.some(isBrisk)) rounds.push(await waitsOf(running));

    for (const { handOvers } of rounds) expect(handOvers).toBeGreaterThan(1);
    expect(rounds.filter(isBrisk)).toHaveLength(1);
  }, 180_000);
});

interface Waits {
  readonly longestMs: number;
  readonly handOvers: number;
  readonly meanHandOverMs: number;
  /** What Redis took meanwhile to answer somebody who asked for nothing, on average. */
  readonly meanPingMs: number;
}

/** Whether nobody has waited for anything but the others' turns: about two answers for each hand-over, and no timer. */
function isBrisk({ longestMs, meanHandOverMs, meanPingMs }: Waits): boolean {
  return longestMs < Math.max(250, 100 * meanPingMs) && meanHandOverMs < Math.max(5, 6 * meanPingMs);
}

/** Asks for nothing now and then, until it is told to stop. */
async function pingUntil(signal: AbortSignal): Promise<number> {
  const client = store.server.connect();
  await client.ping();
  const tookMs: number[] = [];
  do {
    const startMs = performance.now();
    await client.ping();
    tookMs.push(performance.now() - startMs);
    await delay(3);
  } while (!signal.aborted);
  client.disconnect();
  return mean(tookMs);
}

const mean = (numbers: readonly number[]): number =>
  numbers.reduce((all, each) => all + each, 0) / numbers.length;

/** What ten tasks in each process wait for each other on one ident. */
async function waitsOf(running: readonly ManagerWorker[]): Promise<Waits> {
  const ident = `ident-${randomUUID()}`;
  const done = new AbortController();
  const pinged = pingUntil(done.signal);
  await Promise.all(
    running.map((worker) =>
      worker.run({ tasks: 10, idents: [ident], turns: 30, keepsEntries: false, reportsLast: true }),
    ),
  );
  done.abort();
  const records = running
    .flatMap(({ records: own }, number) => own.map((record) => ({ ...record, number })))
    .filter((record) => record.ident === ident)
    .sort((a, b) => (a.value as number) - (b.value as number));
  expect(records.map(({ value }) => value)).toStrictEqual(
    Array.from({ length: 600 }, (_, index) => index + 1),
  );
  const handOversMs = records.flatMap((record, index) => {
    const before = records[index - 1];
    return before === undefined || before.number === record.number
      ? []
      : [(record.beginMs as number) - (before.ranMs as number)];
  });
  return {
    longestMs: Math.max(...records.map(({ startMs, beginMs }) => (beginMs as number) - startMs)),
    handOvers: handOversMs.length,
    meanHandOverMs: mean(handOversMs),
    meanPingMs: await pinged,
  };
}

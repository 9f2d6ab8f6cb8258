// One process of an application, for tests that kill it or need several: it takes turns as it is told and reports each
// of them to its parent. Run from the built package, as an application would.
import 'reflect-metadata';
import { Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { State, StateManager, StateModule, StateToken } from 'nestjs-state';

/** Every turn leaves its id: what was stored, in which order, and whether twice, can be seen afterwards. */
class LedgerState {
  count = 0;
  entries = [];
}
State('ledger')(LedgerState);

/** What one gives another one gets: over all accounts nothing is made and nothing lost. */
class AccountState {
  balance = 0;
  turns = 0;
}
State('account')(AccountState);

/** An argument that names a commit which brings states along. */
const COMMIT_ID = /\r\n~?[\w-]{20,}:\d+[^\r]*#\d+\r\n/;

class WorkerModule {}

const { options, name } = JSON.parse(process.argv[2]);
Module({ imports: [StateModule.forRoot(options)] })(WorkerModule);
const app = await NestFactory.createApplicationContext(WorkerModule, { logger: ['error'] });
const states = app.get(StateManager);
const nowMs = () => Number(process.hrtime.bigint()) / 1e6;

/** Whether a failed turn is known to have stored nothing. */
const STORES_NOTHING = new Set(['STATE_LOCK_TIMEOUT', 'STATE_TOO_MANY_WAITERS', 'STATE_LOCK_EXPIRED']);

/** What becomes of `call`, which takes a turn of `ident`; it is told when its code begins to run. */
async function recordOf(id, ident, call) {
  const record = { id, ident, startMs: nowMs() };
  try {
    record.value = await call(record);
    record.outcome = 'stored';
  } catch (error) {
    record.outcome = STORES_NOTHING.has(error.code) ? 'not stored' : 'unknown';
    record.code = error.code ?? String(error);
  }
  record.endMs = nowMs();
  return record;
}

function takeTurn(ident, id, workMs, keepsEntries) {
  return recordOf(id, ident, (record) =>
    states.modifyState(new StateToken(ident, LedgerState), async (ledger) => {
      record.beginMs = nowMs();
      if (workMs > 0) await delay(Math.random() * workMs);
      ledger.count += 1;
      if (keepsEntries) ledger.entries.push(id);
      record.ranMs = nowMs();
      return ledger.count;
    }),
  );
}

const countIn = (ledger, account, id) => {
  ledger.count += 1;
  ledger.entries.push(id);
  account.balance += ledger.count;
  account.turns += 1;
  return ledger.count;
};

/** Counts in the states of a pair, whichever of its idents has them. */
function countInPair(id, pair) {
  const tokens = [LedgerState, AccountState].flatMap((cls) =>
    pair.map((ident) => new StateToken(ident, cls)),
  );
  return recordOf(id, pair[0], () =>
    states.modifyStates(tokens, (ledgerA, ledgerB, accountA, accountB) =>
      ledgerA.count > 0 ? countIn(ledgerA, accountA, id) : countIn(ledgerB, accountB, id),
    ),
  );
}

/** Counts in the states of a pair and moves them to its second ident, in one turn. The count is 0 where they are there. */
function countAndMove(id, [a, b]) {
  const tokens = [LedgerState, AccountState].map((cls) => new StateToken(a, cls));
  return recordOf(id, a, () =>
    states.modifyStates(tokens, async (ledger, account) => {
      if (ledger.count === 0) return 0;
      const count = countIn(ledger, account, id);
      await states.renameState(a, b);
      return count;
    }),
  );
}

/** Moves the states of a pair from whichever of its idents, which need not have them. */
function moveAlone(id, pair) {
  const [from, to] = Math.random() < 0.5 ? pair : pair.toReversed();
  return recordOf(id, `${from} to ${to}`, async () => ((await states.renameState(from, to)) ? 1 : 0));
}

let isClosed = false;
const stopping = new AbortController();
const watchers = [];

async function runTask(task, { idents, turns, workMs = 0, restMs = 0, keepsEntries = true }, report) {
  for (let number = 0; number < turns && !stopping.signal.aborted; number += 1) {
    const ident = idents[Math.floor(Math.random() * idents.length)];
    const record = await takeTurn(ident, `${name}/${task}/${number}`, workMs, keepsEntries);
    report(record);
    // A server that is away answers at once: nobody gains from asking again in the same moment.
    if (record.outcome !== 'stored') await delay(50);
    else if (restMs > 0) await delay(restMs);
  }
}

const tell = (record) => process.send({ type: 'turns', records: [record] });

async function moveInPair(pair, task) {
  for (let number = 0; !stopping.signal.aborted; number += 1) {
    const id = `${name}/${task}/${number}`;
    tell(await countInPair(id, pair));
    const moved = await countAndMove(`${id}/moved`, pair);
    if (moved.value !== 0) tell(moved);
    tell(await moveAlone(id, pair));
  }
}

const commands = {
  async run({ tasks, reportsLast = false, ...what }) {
    const records = [];
    const report = reportsLast ? (record) => records.push(record) : tell;
    await Promise.all(Array.from({ length: tasks }, (_, task) => runTask(task, what, report)));
    process.send({ type: 'turns', records });
  },
  /** Moves amounts between accounts until it is told to stop. Answers with how many transfers were stored. */
  async transfer({ idents, tasks }) {
    const accounts = idents.map((ident) => new StateToken(ident, AccountState));
    const anyAccount = () => accounts[Math.floor(Math.random() * accounts.length)];
    let stored = 0;
    const transfer = async () => {
      const amount = Math.ceil(Math.random() * 10);
      await states.modifyStates([anyAccount(), anyAccount()], (from, to) => {
        from.balance -= amount;
        to.balance += amount;
        from.turns += 1;
        to.turns += 1;
      });
      stored += 1;
    };
    const run = async () => {
      while (!stopping.signal.aborted) await transfer().catch(() => delay(20));
    };
    await Promise.all(Array.from({ length: tasks }, run));
    return stored;
  },
  /** Moves the states of each pair between its two idents until it is told to stop, and counts in them on the way. */
  async move({ pairs }) {
    await Promise.all(pairs.map(moveInPair));
  },
  /** Ends like by `kill -9` as soon as a command that stores states has left this process: what comes next never does. */
  dieWhileStoring() {
    const { write } = Socket.prototype;
    Socket.prototype.write = function writeAndDie(data, ...rest) {
      const isFlushed = write.call(this, data, ...rest);
      if (COMMIT_ID.test(Buffer.from(data).toString('latin1'))) process.kill(process.pid, 'SIGKILL');
      return isFlushed;
    };
  },
  async stop() {
    stopping.abort();
  },
  async close() {
    stopping.abort();
    await app.close();
  },
  /** Waits for the turns of idents that somebody else has, until one signal ends all of it. */
  async waitWithOneSignal({ idents, waitMs }) {
    const controller = new AbortController();
    const { signal } = controller;
    const calls = idents.map((ident) => states.openTurn(ident, { signal }).catch((error) => error.name));
    await delay(waitMs);
    controller.abort();
    return Promise.all(calls);
  },
  /** Lets so many watchers watch one ident; resolves when each has been told the first time. */
  async watch({ ident, count }) {
    const token = new StateToken(ident, LedgerState);
    const begun = [];
    for (let number = 0; number < count; number += 1) {
      begun.push(
        new Promise((resolve, reject) => {
          const watcher = { told: 0, gaps: 0, last: 0, state: undefined };
          watchers.push(watcher);
          watcher.subscription = states.watch(token).subscribe({
            next({ version, state, reason }) {
              if (reason !== 'current' && version !== watcher.last + 1) watcher.gaps += 1;
              Object.assign(watcher, { told: watcher.told + 1, last: version, state });
              resolve();
            },
            error: reject,
          });
        }),
      );
    }
    await Promise.all(begun);
  },
  /** What they have been told last, when that is `version`: as one, if it is the same for all. */
  async watched({ version }) {
    while (watchers.some(({ last }) => last < version)) await delay(5);
    return watchers.map(({ told, gaps, last, state }) => ({ told, gaps, last, count: state.count, entries: state.entries.length })); // prettier-ignore
  },
  async unwatch() {
    for (const { subscription } of watchers.splice(0)) subscription.unsubscribe();
  },
  stats: () => states.stats(),
  async read({ ident }) {
    return states.getState(new StateToken(ident, LedgerState));
  },
};

process.on('message', async ({ id, command, ...what }) => {
  try {
    process.send({ type: 'answer', id, result: await commands[command](what) });
  } catch (error) {
    process.send({ type: 'answer', id, failure: String(error?.stack ?? error) });
  }
  if (command !== 'close') return;
  // The channel to the parent is the only thing left that keeps this process alive.
  isClosed = true;
  process.disconnect();
});
process.once('disconnect', () => {
  // The parent has died, and nobody else ends this process.
  if (!isClosed) process.exit(1);
});
process.send({ type: 'ready' });

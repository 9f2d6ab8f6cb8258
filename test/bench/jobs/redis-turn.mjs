import { RedisStore } from 'connect-redis';
import { StateToken } from 'nestjs-state';
import { createClient } from 'redis';
import { compare, effort } from '../harness.mjs';
import { redlock, sessionStore, sixCommands, twoScripts } from '../peers/redis.mjs';
import { atLeast, comparison, gainOf } from '../support/report.mjs';
import { openStates, plainVisitor, totalOf, visit, VisitorState } from '../support/states.mjs';

const FLOOR = 'floor: two EVALSHA, same connection';
const SIX = 'six commands';
const REDLOCK = 'redlock + GET + SET';
const LEASED = 'nestjs-state under leaseHold 1s';
const SESSION = 'express-session + connect-redis, unlocked';

/** A caller comes back for his ident as soon as he has his answer, or each turn is of another one. */
const MODES = [
  { at: 'one ident', width: 1 },
  { at: '32 idents at once', width: 32 },
  { at: 'one caller, another ident each time', width: 1, identCount: 1_000 },
  { at: '32 callers, other idents each time', width: 32, identCount: 1_024 },
];

export const title = 'Redis turn, uncontended';

export async function run({ isQuick, redis }) {
  const tables = [];
  const goals = [];
  for (const { at, width, identCount } of MODES) {
    const outcomes = await measure(
      redis,
      { width, identCount: identCount ?? width },
      {
        ...effort(isQuick),
        warmUpCount: isQuick ? 500 : 20_000,
      },
    );
    tables.push(comparison(outcomes, { title: at }));
    goals.push(
      atLeast(`${at}, of the floor`, gainOf(outcomes, FLOOR), 0.8),
      atLeast(`${at}, over six commands`, gainOf(outcomes, SIX), 1.6),
      atLeast(`${at}, over redlock`, gainOf(outcomes, REDLOCK), 1.5),
    );
    // Of a turn that takes the lock and gives it up.
    if (identCount !== undefined)
      goals.push(atLeast(`${at}, under leaseHold over the turn without`, 1 / gainOf(outcomes, LEASED), 12));
  }
  return { tables, goals };
}

async function measure(redis, { width, identCount }, effortOfRun) {
  const name = `${width}-${identCount}`;
  const idents = Array.from({ length: identCount }, (_, number) => `visitor-${name}-${number}`);
  const atOnce = identCount === width ? eachHisOwn(idents) : inTurn(idents, width);
  const client = redis.connect();
  const sessions = createClient({ url: redis.url });
  await sessions.connect();
  const plain = await openStates({ mode: 'redis', redis: { client, keyPrefix: `plain-${name}:` } });
  const leased = await openStates({
    mode: 'redis',
    redis: { client, keyPrefix: `leased-${name}:`, leaseHold: '1s' },
  });
  const store = new RedisStore({ client: sessions, ttl: 3_600 });
  try {
    return await compare(
      [
        own('nestjs-state', idents, plain.states, atOnce),
        peer(FLOOR, idents, await twoScripts(client, `two-${name}:`, plainVisitor), atOnce),
        peer(SIX, idents, sixCommands(client, `six-${name}:`, plainVisitor), atOnce),
        peer(REDLOCK, idents, redlock(client, `redlock-${name}:`, plainVisitor), atOnce),
        peer(SESSION, idents, sessionStore(store, `session-${name}:`, plainVisitor), atOnce),
        own(LEASED, idents, leased.states, atOnce),
      ],
      effortOfRun,
    );
  } finally {
    await Promise.all([plain.close(), leased.close(), sessions.close()]);
    client.disconnect();
  }
}

function own(name, idents, states, atOnce) {
  return {
    name,
    run: atOnce((ident) => states.modifyState(new StateToken(ident, VisitorState), visit)),
    async total() {
      // Whatever is held back under a lease is on the server after this.
      await states.count();
      return totalOf(states, idents);
    },
  };
}

function peer(name, idents, { modify, read }, atOnce) {
  return {
    name,
    run: atOnce((ident) => modify(ident, visit)),
    async total() {
      let total = 0;
      for (const ident of idents) total += (await read(ident)).count;
      return total;
    },
  };
}

/** One caller for each ident, all at once. */
function eachHisOwn(idents) {
  return callers(idents.map((ident) => () => ident));
}

/** So many callers at once, each of whom takes the ident that has not been used for longest. */
function inTurn(idents, width) {
  let next = 0;
  const nextIdent = () => {
    next = (next + 1) % idents.length;
    return idents[next];
  };
  return callers(Array.from({ length: width }, () => nextIdent));
}

function callers(identOf) {
  return (turn) => async (count) => {
    let left = count;
    const task = async (nextIdent) => {
      while (left > 0) {
        left -= 1;
        await turn(nextIdent());
      }
    };
    await Promise.all(identOf.map(task));
  };
}

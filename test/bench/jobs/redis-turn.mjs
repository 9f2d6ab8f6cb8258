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

export const title = 'Redis turn, uncontended';

export async function run({ isQuick, redis }) {
  const tables = [];
  const goals = [];
  for (const width of [1, 32]) {
    const outcomes = await measure(redis, width, {
      ...effort(isQuick),
      warmUpCount: isQuick ? 500 : 20_000,
    });
    const at = width === 1 ? 'one ident' : `${width} idents at once`;
    tables.push(comparison(outcomes, { title: at }));
    goals.push(
      atLeast(`${at}, of the floor`, gainOf(outcomes, FLOOR), 0.8),
      atLeast(`${at}, over six commands`, gainOf(outcomes, SIX), 1.6),
      atLeast(`${at}, over redlock`, gainOf(outcomes, REDLOCK), 1.5),
      atLeast(`${at}, under leaseHold over the turn without`, 1 / gainOf(outcomes, LEASED), 12),
    );
  }
  return { tables, goals };
}

async function measure(redis, width, effortOfRun) {
  const idents = Array.from({ length: width }, (_, number) => `visitor-${width}-${number}`);
  const client = redis.connect();
  const sessions = createClient({ url: redis.url });
  await sessions.connect();
  const plain = await openStates({ mode: 'redis', redis: { client, keyPrefix: `plain-${width}:` } });
  const leased = await openStates({
    mode: 'redis',
    redis: { client, keyPrefix: `leased-${width}:`, leaseHold: '1s' },
  });
  const store = new RedisStore({ client: sessions, ttl: 3_600 });
  try {
    return await compare(
      [
        own('nestjs-state', idents, plain.states),
        peer(FLOOR, idents, await twoScripts(client, `two-${width}:`, plainVisitor)),
        peer(SIX, idents, sixCommands(client, `six-${width}:`, plainVisitor)),
        peer(REDLOCK, idents, redlock(client, `redlock-${width}:`, plainVisitor)),
        peer(SESSION, idents, sessionStore(store, `session-${width}:`, plainVisitor)),
        own(LEASED, idents, leased.states),
      ],
      effortOfRun,
    );
  } finally {
    await Promise.all([plain.close(), leased.close(), sessions.close()]);
    client.disconnect();
  }
}

function own(name, idents, states) {
  return {
    name,
    run: atOnce(idents, (ident) => states.modifyState(new StateToken(ident, VisitorState), visit)),
    async total() {
      // Whatever is held back under a lease is on the server after this.
      await states.count();
      return totalOf(states, idents);
    },
  };
}

function peer(name, idents, { modify, read }) {
  return {
    name,
    run: atOnce(idents, (ident) => modify(ident, visit)),
    async total() {
      let total = 0;
      for (const ident of idents) total += (await read(ident)).count;
      return total;
    },
  };
}

/** One caller for each ident, all at once. */
function atOnce(idents, turn) {
  return async (count) => {
    let left = count;
    const task = async (ident) => {
      while (left > 0) {
        left -= 1;
        await turn(ident);
      }
    };
    await Promise.all(idents.map(task));
  };
}

import autocannon from 'autocannon';
import { LostUpdateError, rotated } from '../harness.mjs';
import { Child } from '../support/child.mjs';
import { gainOver, median, spreadOf } from '../support/figures.mjs';
import { atLeast, count, microseconds, percent, ratio } from '../support/report.mjs';

const CONNECTIONS = 32;
const NAMES = { express: 'Express', fastify: 'Fastify' };
const PLATFORMS = Object.keys(NAMES);
const VARIANTS = {
  injected: 'nestjs-state: @InjectState()',
  empty: 'empty guard and interceptor',
  context: '… in an AsyncLocalStorage',
  session: 'express-session + MemoryStore, unlocked',
};
/** Of an empty guard and interceptor. */
const GOALS = { express: 0.85, fastify: 0.75 };

export const title = 'HTTP: a handler with @InjectState()';

export async function run({ isQuick, otherNodes }) {
  const effort = isQuick
    ? { sittings: 1, rounds: 2, sliceMs: 150, warmUp: 900 }
    : // Short rounds: a machine that is shared changes its pace from second to second, and a round is to see one. And
      // several processes of each: one is up to a twentieth faster than another one for as long as it lives.
      { sittings: 3, rounds: 12, sliceMs: 300, warmUp: 30_000 };
  const tables = [];
  const goals = [];
  for (const execPath of [process.execPath, ...otherNodes]) {
    for (const platform of PLATFORMS) {
      const apps = [];
      for (let sitting = 0; sitting < effort.sittings; sitting += 1)
        join(apps, await measure(platform, execPath, effort));
      const [ours, empty, , session] = apps;
      const at = `${NAMES[platform]}, Node ${ours.version}`;
      tables.push(tableOf(at, apps));
      goals.push(
        atLeast(
          `${at}, of an empty guard and interceptor`,
          gainOver(ours.rates, empty.rates),
          GOALS[platform],
        ),
        atLeast(`${at}, over express-session`, gainOver(ours.rates, session.rates), 1),
      );
    }
  }
  return { tables, goals };
}

/** Adds what was measured in another sitting, variant by variant. */
function join(apps, others) {
  for (const [index, other] of others.entries()) {
    const app = (apps[index] ??= { name: other.name, version: other.version, rates: [], costs: [] });
    app.rates.push(...other.rates);
    app.costs.push(...other.costs);
  }
}

async function measure(platform, execPath, { rounds, sliceMs, warmUp }) {
  const apps = [];
  try {
    for (const variant of Object.keys(VARIANTS)) apps.push(await startApp(platform, execPath, variant));
    for (const app of apps) {
      // By number: what a server is fast at is compiled by then, however busy the machine.
      for (let sent = 0; sent < warmUp; sent += warmUp / 3) {
        const { perSecond } = await send(app, warmUp / 3);
        app.amount = Math.max(CONNECTIONS, Math.round((perSecond * sliceMs) / 1_000));
      }
    }
    for (let round = 0; round <= rounds; round += 1) {
      for (const app of rotated(apps, round)) {
        const usedBeforeMs = await app.child.call('cpuMs');
        const { perSecond } = await send(app, app.amount);
        const usedMs = (await app.child.call('cpuMs')) - usedBeforeMs;
        if (round === 0) continue;
        app.rates.push(perSecond);
        app.costs.push((usedMs * 1_000) / app.amount);
      }
    }
    for (const { name, child, answered } of apps) {
      const total = await child.call('total');
      if (total !== answered) throw new LostUpdateError(`${name} on ${platform}`, answered, total);
    }
    return apps;
  } finally {
    await Promise.all(apps.map(({ child }) => child.stop()));
  }
}

async function startApp(platform, execPath, variant) {
  const visitors = Array.from({ length: CONNECTIONS }, (_, number) => `visitor-${number}-of-the-benchmark`);
  const child = await Child.startOn(execPath, 'http-app.mjs', { platform, variant, visitors });
  const app = {
    name: VARIANTS[variant],
    child,
    version: await child.call('version'),
    url: `http://127.0.0.1:${await child.call('port')}/visit`,
    cookies: visitors.map((visitor) => `state_token=${visitor}`),
    amount: 0,
    answered: 0,
    rates: [],
    costs: [],
  };
  try {
    // A session begins with the cookie that the server gives.
    if (variant === 'session') app.cookies = await Promise.all(visitors.map(() => beginSession(app)));
    return app;
  } catch (error) {
    await child.stop();
    throw error;
  }
}

async function beginSession(app) {
  const response = await fetch(app.url, { method: 'POST' });
  await response.arrayBuffer();
  app.answered += 1;
  const [cookie] = response.headers.getSetCookie();
  if (cookie === undefined) throw new Error(`${app.name}: no cookie came with status ${response.status}.`);
  return cookie.split(';')[0];
}

/** Sends that many requests, each connection as a client of its own. */
function send(app, amount) {
  return new Promise((resolve, reject) => {
    let next = 0;
    let answered = 0;
    let firstMs = 0;
    let lastMs = 0;
    const cannon = autocannon(
      {
        url: app.url,
        method: 'POST',
        connections: CONNECTIONS,
        amount,
        // How often it looks whether it is done.
        sampleInt: 20,
        skipAggregateResult: true,
        setupClient: (client) => {
          client.setHeaders({ cookie: app.cookies[next % CONNECTIONS] });
          next += 1;
        },
      },
      (error, result) => {
        if (error) reject(error);
        else if (result['2xx'] !== amount)
          reject(new Error(`${app.name}: ${result['2xx']} of ${amount} were answered.`));
        else resolve({ perSecond: ((answered - 1) / (lastMs - firstMs)) * 1_000 });
      },
    );
    cannon.on('response', () => {
      lastMs = performance.now();
      if (answered === 0) firstMs = lastMs;
      answered += 1;
      app.answered += 1;
    });
  });
}

function tableOf(at, apps) {
  const [ours] = apps;
  return {
    title: at,
    columns: ['variant', 'requests/s', 'ours ÷ variant', 'spread', 'processor of the server'],
    rows: apps.map((app) => [
      app.name,
      count(median(app.rates)),
      app === ours ? '' : ratio(gainOver(ours.rates, app.rates)),
      `±${percent(spreadOf(app.rates))}`,
      microseconds(median(app.costs)),
    ]),
  };
}

import { cp, mkdtemp, readdir, rm, stat, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { Redis } from 'ioredis';
import type { Browser } from 'playwright-core';
import { io, type Socket } from 'socket.io-client';
import { DESKTOP, launchBrowser, SamplePage } from '../support/browser.js';
import { answers, ServerProcess, type StartOptions } from '../support/process.js';
import { RedisServer, until } from '../support/redis-server.js';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const ATTEMPTS = 3;
const EXPIRES_IN_MS = 3_600_000;

interface Told {
  count: number;
  expiresInMs: number;
}
interface Answer extends Told {
  token: string;
}

let tokens = 0;
const newToken = () => `cluster-${process.pid}-${(tokens += 1)}`;

/** The addresses of both processes. */
const urlsOf = ({ url, port }: ServerProcess): [string, string] => [url, `http://127.0.0.1:${port + 1}`];

const hasEnded = ({ child }: ServerProcess) => child.exitCode !== null || child.signalCode !== null;

/** Starts both and resolves when they say that they answer; again should the second port be somebody else's. */
async function startCluster(command: string, options: StartOptions): Promise<ServerProcess> {
  for (let attempt = 1; ; attempt += 1) {
    let server: ServerProcess | undefined;
    try {
      const started = (server = await ServerProcess.start(command, options));
      const isOpen = () => started.output.includes(`Open ${urlsOf(started).join(' and ')}`);
      await until('both answer', () => Promise.resolve(isOpen() || hasEnded(started)), 60_000);
      if (!isOpen()) throw new Error(`It ended before both answered. It wrote:\n${started.output}`);
      return started;
    } catch (error) {
      await server?.[Symbol.asyncDispose]();
      if (attempt === ATTEMPTS || !String(error).includes('EADDRINUSE')) throw error;
    }
  }
}

const startByNode = (env: Record<string, string> = {}, ownGroup = false) =>
  startCluster(process.execPath, { args: ['dist-sample/cluster.js'], cwd: ROOT, env, ownGroup });

async function increment(url: string, token: string): Promise<Answer> {
  const response = await fetch(`${url}/counter/increment`, {
    method: 'POST',
    headers: { 'x-state-token': token },
  });
  expect(response.status).toBe(201);
  return (await response.json()) as Answer;
}

async function countAt(url: string, token: string): Promise<number> {
  const response = await fetch(`${url}/counter`, { headers: { 'x-state-token': token } });
  return ((await response.json()) as Answer).count;
}

const emit = (socket: Socket, event: 'increment' | 'watch'): Promise<Answer> =>
  socket.timeout(5_000).emitWithAck(event, {}) as Promise<Answer>;

const isRunning = (pid: number): boolean => {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
};

/** The Redis that the processes have started themselves: its process and its folder. */
async function ownRedisOf({ output }: ServerProcess): Promise<{ pid: number; folder: string }> {
  const url = /Redis of its own: (redis:\S+)/.exec(output)?.[1];
  if (url === undefined) throw new Error(`No Redis of its own. It wrote:\n${output}`);
  const client = new Redis(url);
  try {
    const [, pid] = /process_id:(\d+)/.exec(await client.info('server')) ?? [];
    const [, folder] = (await client.config('GET', 'dir')) as [string, string];
    return { pid: Number(pid), folder };
  } finally {
    client.disconnect();
  }
}

async function expectNothingLeft(server: ServerProcess, redis: { pid: number; folder: string }) {
  await until('Redis is gone', () => Promise.resolve(!isRunning(redis.pid)));
  await until('its folder is gone', () =>
    stat(redis.folder).then(
      () => false,
      () => true,
    ),
  );
  for (const url of urlsOf(server)) await until(`${url} is closed`, async () => !(await answers(url)));
}

/** A copy of what `npm run start:cluster` builds: the build removes first what the tests beside this one are using. */
async function copyOfSources(): Promise<string> {
  const copy = await mkdtemp(join(tmpdir(), 'nestjs-state-cluster-'));
  const sources = ['lib', 'sample', ...(await readdir(ROOT)).filter((file) => file.endsWith('.json'))];
  await Promise.all(sources.map((file) => cp(join(ROOT, file), join(copy, file), { recursive: true })));
  await symlink(join(ROOT, 'node_modules'), join(copy, 'node_modules'));
  return copy;
}

describe('The sample in two processes', () => {
  let copy: string;
  const startByNpm = (env: Record<string, string> = {}) =>
    startCluster('npm', { args: ['run', 'start:cluster'], cwd: copy, env, ownGroup: true });

  beforeAll(async () => {
    copy = await copyOfSources();
  }, 60_000);

  afterAll(async () => {
    await rm(copy, { recursive: true, force: true });
  });

  describe('on a Redis it is given', () => {
    let redis: RedisServer;
    let server: ServerProcess;
    let urls: [string, string];
    let browser: Browser;
    const sockets: Socket[] = [];

    beforeAll(async () => {
      redis = await RedisServer.start();
      server = await startByNpm({ REDIS_URL: redis.url });
      urls = urlsOf(server);
      browser = await launchBrowser();
    }, 300_000);

    afterAll(async () => {
      for (const socket of sockets) socket.disconnect();
      await browser?.close();
      await server?.[Symbol.asyncDispose]();
      await redis?.[Symbol.asyncDispose]();
    });

    /** A socket that watches the counter of a token, and what it is told. */
    async function watch(url: string, token: string): Promise<{ socket: Socket; told: Told[] }> {
      const socket = io(url, { transports: ['websocket'], reconnection: false, auth: { token } });
      sockets.push(socket);
      const told: Told[] = [];
      socket.on('counter', (news: Told) => told.push(news));
      await emit(socket, 'watch');
      return { socket, told };
    }

    it('answers on both ports, and starts no Redis of its own', async () => {
      expect(await Promise.all(urls.map(answers))).toEqual([true, true]);
      expect(server.output).not.toContain('Redis of its own');
    });

    it('counts 100 parallel increments over both to exactly 100', async () => {
      const token = newToken();
      const given = await Promise.all(
        Array.from({ length: 100 }, async (_, index) => (await increment(urls[index % 2]!, token)).count),
      );
      expect(given.toSorted((a, b) => a - b)).toEqual(Array.from({ length: 100 }, (_, index) => index + 1));
      expect(await Promise.all(urls.map((url) => countAt(url, token)))).toEqual([100, 100]);
    });

    it('tells those who watch in either process of each increment in either, over HTTP and socket', async () => {
      const token = newToken();
      const [one, other, stranger] = await Promise.all([
        watch(urls[0], token),
        watch(urls[1], token),
        watch(urls[1], newToken()),
      ]);
      await increment(urls[0], token);
      await increment(urls[1], token);
      await emit(one.socket, 'increment');
      await emit(other.socket, 'increment');
      const all = [1, 2, 3, 4].map((count) => ({ count, expiresInMs: EXPIRES_IN_MS }));
      for (const { told } of [one, other]) {
        await until('all is told', () => Promise.resolve(told.length === all.length));
        expect(told.toSorted((a, b) => a.count - b.count)).toEqual(all);
      }
      expect(stranger.told).toEqual([]);
    });

    it('tells of what is committed: whoever is told of a count finds it in either process', async () => {
      const token = newToken();
      const found: Promise<boolean>[] = [];
      for (const url of urls) {
        const { socket } = await watch(url, token);
        socket.on('counter', ({ count }: Told) => {
          for (const place of urls) found.push(countAt(place, token).then((now) => now >= count));
        });
      }
      await Promise.all(Array.from({ length: 50 }, (_, index) => increment(urls[index % 2]!, token)));
      await until('all is told', () => Promise.resolve(found.length === 50 * 2 * 2));
      expect(new Set(await Promise.all(found))).toEqual(new Set([true]));
    });

    it('tells nobody of an increment that could not be stored', async () => {
      const token = newToken();
      const { socket, told } = await watch(urls[0], token);
      const admin = redis.connect();
      // What a commit writes with: the lock can be taken, and the handler runs.
      await admin.call('ACL', 'SETUSER', 'default', '-hset');
      try {
        const headers = { 'x-state-token': token };
        const response = await fetch(`${urls[0]}/counter/increment`, { method: 'POST', headers });
        expect(response.status).toBe(503);
      } finally {
        await admin.call('ACL', 'SETUSER', 'default', '+hset');
      }
      // What was told before comes before the answer.
      expect(await emit(socket, 'watch')).toMatchObject({ count: 0 });
      expect(told).toEqual([]);
    });

    it('sees on looking what it has missed before it watched', async () => {
      const token = newToken();
      await increment(urls[0], token);
      const { socket } = await watch(urls[1], token);
      expect(await emit(socket, 'watch')).toEqual({ count: 1, token, expiresInMs: EXPIRES_IN_MS });
    });

    it('lets no token travel between the processes', async () => {
      const token = newToken();
      const { told } = await watch(urls[1], token);
      const spy = redis.connect();
      const channels: string[] = [];
      const messages: string[] = [];
      spy.on('pmessage', (_pattern: string, channel: string, message: string) => {
        channels.push(channel);
        messages.push(message);
      });
      await spy.psubscribe('*');
      await increment(urls[0], token);
      await until('it is told', () => Promise.resolve(told.length === 1));
      await until('it has passed', () =>
        Promise.resolve(channels.some((name) => name.includes('socket.io'))),
      );
      expect([...channels, ...messages].join('\n')).not.toContain(token);
    });

    it('shows every click in two tabs, one on each port, live and never backwards', async () => {
      const context = await browser.newContext({ viewport: DESKTOP });
      try {
        const one = await SamplePage.open(context, urls[0]);
        const other = await SamplePage.open(context, urls[1]);
        expect(await other.token()).toBe(await one.token());
        await Promise.all([recordCounts(one), recordCounts(other)]);
        const ways = [
          () => one.incrementOverHttp(),
          () => other.incrementOverHttp(),
          () => one.incrementOverSocket(),
          () => other.incrementOverSocket(),
        ];
        for (let clicks = 1; clicks <= 8; clicks += 1) {
          await ways[clicks % ways.length]!();
          await Promise.all([one.whenCountIs(clicks), other.whenCountIs(clicks)]);
        }
        await Promise.all([one.clickAlternately(16), other.clickAlternately(16)]);
        await Promise.all([one.whenCountIs(40), other.whenCountIs(40)]);
        // Late messages, should there be any.
        await delay(200);
        for (const tab of [one, other]) {
          expect(await tab.count()).toBe(40);
          expect(await tab.note()).toBe('');
          expect(await tab.idleShare()).toBeGreaterThan(0.99);
          const shown = await recordedCounts(tab);
          expect(shown).toEqual(shown.toSorted((a, b) => a - b));
          expect(tab.complaints).toEqual([]);
        }
        expect(await countAt(urls[0], await one.token())).toBe(40);
      } finally {
        await context.close();
      }
    }, 60_000);

    it('ends with everything it has started on SIGTERM, and leaves that Redis alone', async () => {
      await server.end('SIGTERM', 10_000);
      await server.whenGroupIsGone(5_000);
      expect(await Promise.all(urls.map(answers))).toEqual([false, false]);
      expect(redis.isRunning).toBe(true);
      expect(server.output).not.toMatch(/error/i);
    });
  });

  describe('with a Redis of its own', () => {
    it('starts one, counts over both, and leaves nothing behind on SIGTERM', async () => {
      await using server = await startByNode({}, true);
      const redis = await ownRedisOf(server);
      const token = newToken();
      for (let count = 1; count <= 4; count += 1) {
        expect(await increment(urlsOf(server)[count % 2]!, token)).toMatchObject({ count, token });
      }
      await server.end('SIGTERM', 10_000);
      await server.whenGroupIsGone(5_000);
      await expectNothingLeft(server, redis);
      expect(server.output).not.toMatch(/error/i);
    }, 300_000);

    it('leaves nothing behind when it is killed', async () => {
      await using server = await startByNode();
      const redis = await ownRedisOf(server);
      await server.end('SIGKILL', 5_000);
      await expectNothingLeft(server, redis);
    }, 60_000);

    it('leaves nothing behind on Ctrl+C, which reaches every process of the terminal at once', async () => {
      await using server = await startByNode({}, true);
      const redis = await ownRedisOf(server);
      await increment(server.url, newToken());
      process.kill(-server.pid, 'SIGINT');
      await server.whenEnded(10_000);
      await server.whenGroupIsGone(5_000);
      await expectNothingLeft(server, redis);
      expect(server.output).not.toMatch(/error|warn/i);
    }, 60_000);

    it('ends as a whole, with its code, when one of the two dies', async () => {
      await using server = await startByNode();
      const redis = await ownRedisOf(server);
      const [, pid] = /\[Nest\] (\d+)/.exec(server.output) ?? [];
      process.kill(Number(pid), 'SIGKILL');
      expect(await server.whenEnded(10_000)).toEqual({ code: 128 + 9, signal: null });
      await expectNothingLeft(server, redis);
    }, 60_000);

    it('says what to install where there is none', async () => {
      const empty = await mkdtemp(join(tmpdir(), 'nestjs-state-no-programs-'));
      try {
        const starting = startByNode({ PATH: empty }).then((server) => server[Symbol.asyncDispose]());
        await expect(starting).rejects.toThrow(/apt-get install redis-server.*REDIS_URL/);
      } finally {
        await rm(empty, { recursive: true, force: true });
      }
    }, 60_000);
  });
});

/** What of the browser the functions below use, which run in the page. */
interface PageScope {
  shown?: number[];
  document: { querySelector(selector: string): { textContent: string } };
  MutationObserver: new (callback: () => void) => { observe(node: object, options: object): void };
}

async function recordCounts({ page }: SamplePage): Promise<void> {
  await page.evaluate(() => {
    const scope = globalThis as unknown as PageScope;
    const counter = scope.document.querySelector('#counter');
    const shown: number[] = (scope.shown = []);
    new scope.MutationObserver(() => shown.push(Number(counter.textContent))).observe(counter, {
      childList: true,
    });
  });
}

async function recordedCounts({ page }: SamplePage): Promise<number[]> {
  return page.evaluate(() => (globalThis as unknown as PageScope).shown ?? []);
}

import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { FORMATS, installFreshApp, NEST_RELEASES } from '../support/fresh-app.js';
import { ServerProcess } from '../support/process.js';
import { RedisServer } from '../support/redis-server.js';
import { OPTIONAL_PEERS } from './manifest.js';
import { run } from './npm.js';

const INSTALL_TIMEOUT_MS = 300_000;
const ADAPTERS = ['express', 'fastify'];

const made: string[] = [];
/** Each of them once everything is installed in it. */
const installed: Promise<string>[] = [];

beforeAll(async () => {
  // Side by side: one waits for the registry while the other compiles.
  for (const release of NEST_RELEASES) {
    const folder = await mkdtemp(join(tmpdir(), `nestjs-state-nest-${release.nest}-`));
    made.push(folder);
    const done = installFreshApp(folder, release).then(() => folder);
    done.catch(() => undefined);
    installed.push(done);
  }
});

afterAll(async () => {
  await Promise.allSettled(installed);
  await Promise.all(made.map((folder) => rm(folder, { recursive: true, force: true })));
}, INSTALL_TIMEOUT_MS);

describe.each(NEST_RELEASES)('Installed beside Nest $nest', ({ nest, ioredis }) => {
  let folder: string;

  beforeAll(async () => {
    folder = (await installed[NEST_RELEASES.findIndex((release) => release.nest === nest)]) as string;
  }, INSTALL_TIMEOUT_MS);

  it('brings no optional peer with it', () => {
    expect(OPTIONAL_PEERS.filter((peer) => existsSync(join(folder, 'node_modules', peer)))).toEqual([]);
  });

  it(`is there with the asked for Nest`, async () => {
    const print = `console.log(require('@nestjs/core/package.json').version)`;
    expect(await run(process.execPath, ['-e', print], folder)).toMatch(new RegExp(`^${nest}\\.`));
  });

  it('can be loaded with require()', async () => {
    const print = `const { StateModule } = require('nestjs-state'); console.log(typeof StateModule.forRoot)`;
    expect((await run(process.execPath, ['-e', print], folder)).trim()).toBe('function');
  });

  it.each(FORMATS.flatMap((format) => ADAPTERS.map((adapter) => ({ format, adapter }))))(
    'serves increments 1 and 2 in an application of format $format on $adapter',
    async ({ format, adapter }) => {
      await using server = await ServerProcess.start(process.execPath, {
        args: [`${format}/main.js`],
        cwd: folder,
        env: { ADAPTER: adapter },
      });
      for (const count of [1, 2]) {
        const response = await fetch(`${server.url}/counter/increment`, {
          method: 'POST',
          headers: { 'x-state-token': 'somebody' },
        });
        expect(response.status).toBe(201);
        expect(await response.json()).toEqual({ count, token: 'somebody' });
      }
      const report = await fetch(`${server.url}/counter/somebody`);
      expect(await report.json()).toEqual({ count: 2 });
      expect(await (await fetch(`${server.url}/inside`)).text()).toContain('src="./inside/page.js"');
      expect(await (await fetch(`${server.url}/inside/data`)).json()).toMatchObject({
        mode: 'memory',
        states: 1,
      });
      const issued = await fetch(`${server.url}/counter/increment`, { method: 'POST' });
      expect(issued.headers.getSetCookie()[0]).toMatch(/^state_token=.*; HttpOnly; SameSite=Lax$/);
      await issued.arrayBuffer();
      expect(await server.end('SIGTERM', 5_000)).toEqual({ code: null, signal: 'SIGTERM' });
    },
    60_000,
  );

  it(`says what to install when it is to use Redis, or a disk, and uses it then (ioredis ${ioredis})`, async () => {
    await using redis = await RedisServer.start();
    const start = (format: string, mode: 'redis' | 'disk') =>
      ServerProcess.start(process.execPath, {
        args: [`${format}/main.js`],
        cwd: folder,
        env: { MODE: mode, STATE_REDIS_URL: redis.url, STATE_DISK_PATH: join(folder, format, 'states') },
      });
    for (const format of FORMATS) {
      await expect(start(format, 'redis')).rejects.toThrow(/npm install ioredis/);
      await expect(start(format, 'disk')).rejects.toThrow(/npm install lmdb/);
    }
    await run(
      'npm',
      ['install', `ioredis@${ioredis}`, 'lmdb@3', '--no-audit', '--no-fund', '--prefer-offline'],
      folder,
    );

    const counts: number[] = [];
    await using esm = await start('esm', 'redis');
    await using cjs = await start('cjs', 'redis');
    for (const server of [esm, cjs, esm, cjs]) counts.push(await increment(server));
    expect(counts).toEqual([1, 2, 3, 4]);
    for (const server of [esm, cjs])
      expect(await server.end('SIGTERM', 5_000)).toEqual({ code: null, signal: 'SIGTERM' });

    for (const format of FORMATS) {
      for (const count of [1, 2]) {
        await using server = await start(format, 'disk');
        expect(await increment(server)).toBe(count);
        expect(await server.end('SIGTERM', 5_000)).toEqual({ code: null, signal: 'SIGTERM' });
      }
    }
  }, 120_000);
});

async function increment({ url }: ServerProcess): Promise<number> {
  const response = await fetch(`${url}/counter/increment`, {
    method: 'POST',
    headers: { 'x-state-token': 'somebody' },
  });
  return ((await response.json()) as { count: number }).count;
}

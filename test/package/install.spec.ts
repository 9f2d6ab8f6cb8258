import { existsSync } from 'node:fs';
import { copyFile, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { ServerProcess } from '../support/process.js';
import { RedisServer } from '../support/redis-server.js';
import { OPTIONAL_PEERS, ROOT } from './manifest.js';
import { pack, run } from './npm.js';

const FIXTURE = join(ROOT, 'test/package/fixtures/app');
const INSTALL_TIMEOUT_MS = 300_000;

interface Release {
  readonly nest: string;
  readonly packages: Readonly<Record<string, string>>;
  readonly adapters: readonly string[];
}

const RELEASES: readonly Release[] = [
  {
    nest: '12',
    packages: {
      '@nestjs/common': '^12.0.0',
      '@nestjs/config': '^12.0.0',
      '@nestjs/core': '^12.0.0',
      '@nestjs/platform-express': '^12.0.0',
      '@nestjs/platform-fastify': '^12.0.0',
      '@nestjs/schedule': '^12.0.0',
    },
    adapters: ['express', 'fastify'],
  },
  {
    nest: '11',
    packages: {
      '@nestjs/common': '^11.0.0',
      '@nestjs/config': '^4.0.0',
      '@nestjs/core': '^11.0.0',
      '@nestjs/platform-express': '^11.0.0',
      '@nestjs/schedule': '^6.0.0',
    },
    adapters: ['express'],
  },
];

/** An empty folder with the tarball installed in it, and the fixture once as ES module and once as CommonJS, compiled. */
async function install(folder: string, packages: Release['packages']): Promise<void> {
  const { filename } = await pack(ROOT, '--pack-destination', folder);
  const manifest = {
    private: true,
    dependencies: {
      ...packages,
      'nestjs-state': `file:${filename}`,
      'reflect-metadata': '^0.2.0',
      rxjs: '^7.8.0',
    },
    devDependencies: { '@types/node': '^20.0.0', typescript: '~6.0.0' },
  };
  await writeFile(join(folder, 'package.json'), JSON.stringify(manifest));
  await copyFile(join(FIXTURE, 'tsconfig.json'), join(folder, 'tsconfig.json'));
  for (const [name, type] of [
    ['esm', 'module'],
    ['cjs', 'commonjs'],
  ] as const) {
    await mkdir(join(folder, name));
    await writeFile(join(folder, name, 'package.json'), JSON.stringify({ type }));
    await copyFile(join(FIXTURE, 'main.ts'), join(folder, name, 'main.ts'));
  }
  await run('npm', ['install', '--no-audit', '--no-fund', '--prefer-offline', '--strict-peer-deps'], folder);
  // Checks the types of the application and those of the package, then writes esm/main.js and cjs/main.js.
  await run(process.execPath, ['node_modules/typescript/bin/tsc', '-p', '.'], folder);
}

const made: string[] = [];
/** Each of them once everything is installed in it. */
const installed: Promise<string>[] = [];

beforeAll(async () => {
  // Side by side: one waits for the registry while the other compiles.
  for (const { nest, packages } of RELEASES) {
    const folder = await mkdtemp(join(tmpdir(), `nestjs-state-nest-${nest}-`));
    made.push(folder);
    const done = install(folder, packages).then(() => folder);
    done.catch(() => undefined);
    installed.push(done);
  }
});

afterAll(async () => {
  await Promise.allSettled(installed);
  await Promise.all(made.map((folder) => rm(folder, { recursive: true, force: true })));
}, INSTALL_TIMEOUT_MS);

describe.each(RELEASES)('Installed beside Nest $nest', ({ nest, adapters }) => {
  let folder: string;

  beforeAll(async () => {
    folder = (await installed[RELEASES.findIndex((release) => release.nest === nest)]) as string;
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

  it.each(['esm', 'cjs'].flatMap((format) => adapters.map((adapter) => ({ format, adapter }))))(
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

  it('says what to install when it is to use Redis, and uses it then', async () => {
    await using redis = await RedisServer.start();
    const start = (format: string) =>
      ServerProcess.start(process.execPath, {
        args: [`${format}/main.js`],
        cwd: folder,
        env: { MODE: 'redis', STATE_REDIS_URL: redis.url },
      });
    await expect(start('esm')).rejects.toThrow(/npm install ioredis/);
    await expect(start('cjs')).rejects.toThrow(/npm install ioredis/);
    await run('npm', ['install', 'ioredis@6', '--no-audit', '--no-fund', '--prefer-offline'], folder);

    const counts: number[] = [];
    await using esm = await start('esm');
    await using cjs = await start('cjs');
    for (const server of [esm, cjs, esm, cjs]) {
      const response = await fetch(`${server.url}/counter/increment`, {
        method: 'POST',
        headers: { 'x-state-token': 'somebody' },
      });
      counts.push(((await response.json()) as { count: number }).count);
    }
    expect(counts).toEqual([1, 2, 3, 4]);
    for (const server of [esm, cjs])
      expect(await server.end('SIGTERM', 5_000)).toEqual({ code: null, signal: 'SIGTERM' });
  }, 120_000);
});

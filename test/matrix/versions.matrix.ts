import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { ROOT } from '../package/manifest.js';
import { run } from '../package/npm.js';
import { FORMATS, installFreshApp, NEST_RELEASES } from '../support/fresh-app.js';
import { ServerProcess } from '../support/process.js';

// Run by `npm run test:matrix`: the packed tarball in fresh applications, on everything it says it runs on.

const NODES = ['20', '22', '24'];
const ADAPTERS = ['express', 'fastify'];
const INSTALL_TIMEOUT_MS = 600_000;
const TABLE = /(<!-- matrix -->\n)[^]*?(<!-- \/matrix -->)/;

/** The npm package that holds the binary of Node for this machine. */
const NODE_PACKAGE = `node-${process.platform}-${process.arch}`;

let parent: string;
const outcomes = new Map<string, string>();
const keyOf = (...parts: readonly string[]): string => parts.join(' ');

beforeAll(async () => {
  parent = await mkdtemp(join(tmpdir(), 'nestjs-state-matrix-'));
  for (const release of NEST_RELEASES) {
    const folder = join(parent, `nest-${release.nest}`);
    await mkdir(folder);
    await installFreshApp(folder, release);
  }
  for (const version of NODES) {
    const folder = join(parent, `node-${version}`);
    await mkdir(folder);
    await writeFile(join(folder, 'package.json'), JSON.stringify({ private: true }));
    await run('npm', ['install', `${NODE_PACKAGE}@${version}`, '--no-audit', '--no-fund'], folder);
  }
}, INSTALL_TIMEOUT_MS);

afterAll(async () => {
  await rm(parent, { recursive: true, force: true });
  const columns = ADAPTERS.flatMap((adapter) => FORMATS.map((format) => [adapter, format] as const));
  const rows = NEST_RELEASES.flatMap(({ nest }) =>
    NODES.map((node) => {
      const cells = columns.map(
        ([adapter, format]) => outcomes.get(keyOf(nest, node, adapter, format)) ?? 'not run',
      );
      return `| Nest ${nest}, Node ${node} | ${cells.join(' | ')} |`;
    }),
  );
  const heads = columns.map(
    ([adapter, format]) => `${adapter}, ${format === 'esm' ? 'ES module' : 'require()'}`,
  );
  const table = [`|  | ${heads.join(' | ')} |`, `| --- |${' --- |'.repeat(columns.length)}`, ...rows].join(
    '\n',
  );
  console.log(table);
  if (process.env['MATRIX_WRITE'] === undefined) return;
  const file = join(ROOT, 'README.md');
  const readme = await readFile(file, 'utf8');
  await writeFile(file, readme.replace(TABLE, `$1\n${table}\n\n$2`));
  await run('npx', ['prettier', '--write', 'README.md'], ROOT);
});

describe.each(NEST_RELEASES)('Beside Nest $nest', ({ nest }) => {
  describe.each(NODES)('on Node %s', (node) => {
    it.each(ADAPTERS.flatMap((adapter) => FORMATS.map((format) => ({ adapter, format }))))(
      'counts on $adapter, loaded as $format',
      async ({ adapter, format }) => {
        const key = keyOf(nest, node, adapter, format);
        outcomes.set(key, 'fails');
        const binary = join(parent, `node-${node}`, 'node_modules', NODE_PACKAGE, 'bin/node');
        const version = (await run(binary, ['-p', 'process.versions.node'], parent)).trim();
        expect(version).toMatch(new RegExp(`^${node}\\.`));
        await using server = await ServerProcess.start(binary, {
          args: [`${format}/main.js`],
          cwd: join(parent, `nest-${nest}`),
          env: { ADAPTER: adapter },
        });
        const answers = await Promise.all(
          Array.from({ length: 20 }, async () => {
            const response = await fetch(`${server.url}/counter/increment`, {
              method: 'POST',
              headers: { 'x-state-token': 'somebody' },
            });
            return ((await response.json()) as { count: number }).count;
          }),
        );
        expect(answers.sort((a, b) => a - b)).toEqual(Array.from({ length: 20 }, (_, index) => index + 1));
        expect(await server.end('SIGTERM', 10_000)).toEqual({ code: null, signal: 'SIGTERM' });
        outcomes.set(key, `works (${version})`);
      },
      60_000,
    );
  });
});

import { copyFile, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ROOT } from '../package/manifest.js';
import { pack, run } from '../package/npm.js';

const FIXTURE = join(ROOT, 'test/package/fixtures/app');

export const FORMATS = ['esm', 'cjs'] as const;

/** A major version of Nest, one of the Redis client, and what an application on it installs. */
export interface NestRelease {
  readonly nest: string;
  readonly ioredis: string;
  readonly packages: Readonly<Record<string, string>>;
}

export const NEST_RELEASES: readonly NestRelease[] = [
  {
    nest: '12',
    ioredis: '6',
    packages: {
      '@nestjs/common': '^12.0.0',
      '@nestjs/config': '^12.0.0',
      '@nestjs/core': '^12.0.0',
      '@nestjs/platform-express': '^12.0.0',
      '@nestjs/platform-fastify': '^12.0.0',
      '@nestjs/schedule': '^12.0.0',
    },
  },
  {
    nest: '11',
    ioredis: '5',
    packages: {
      '@nestjs/common': '^11.0.0',
      '@nestjs/config': '^4.0.0',
      '@nestjs/core': '^11.0.0',
      '@nestjs/platform-express': '^11.0.0',
      '@nestjs/platform-fastify': '^11.0.0',
      '@nestjs/schedule': '^6.0.0',
    },
  },
];

/** An empty folder with the tarball installed in it, and the fixture once as ES module and once as CommonJS, compiled. */
export async function installFreshApp(folder: string, { packages }: NestRelease): Promise<void> {
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
  for (const format of FORMATS) {
    await mkdir(join(folder, format));
    const type = format === 'esm' ? 'module' : 'commonjs';
    await writeFile(join(folder, format, 'package.json'), JSON.stringify({ type }));
    await copyFile(join(FIXTURE, 'main.ts'), join(folder, format, 'main.ts'));
  }
  await run('npm', ['install', '--no-audit', '--no-fund', '--prefer-offline', '--strict-peer-deps'], folder);
  // Checks the types of the application and those of the package, then writes esm/main.js and cjs/main.js.
  await run(process.execPath, ['node_modules/typescript/bin/tsc', '-p', '.'], folder);
}

import { spawn } from 'node:child_process';
import { cp, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { transform, type Options } from '@swc/core';

const ROOT = resolve(import.meta.dirname, '../..');
const PATIENCE_MS = 50_000;

const SWC: Options = {
  swcrc: false,
  jsc: {
    target: 'es2022',
    parser: { syntax: 'typescript', decorators: true },
    transform: { legacyDecorator: true, decoratorMetadata: true },
    keepClassNames: true,
  },
  module: { type: 'es6' },
};

export interface Exit {
  /** `null` when it did not exit by itself in time. */
  code: number | null;
  output: string;
}

/** Runs a file of this folder, together with the library, in a process of its own until that exits by itself. */
export async function runToExit(fixture: string, args: readonly string[]): Promise<Exit> {
  const folder = await mkdtemp(join(tmpdir(), 'nestjs-state-'));
  try {
    await symlink(join(ROOT, 'node_modules'), join(folder, 'node_modules'), 'dir');
    await cp(join(ROOT, 'package.json'), join(folder, 'package.json'));
    const sources = (await readdir(join(ROOT, 'lib'), { recursive: true })).filter((file) =>
      file.endsWith('.ts'),
    );
    await Promise.all([
      ...sources.map((file) => compile(join(ROOT, 'lib', file), join(folder, 'lib', file))),
      compile(join(import.meta.dirname, fixture), join(folder, 'main.ts')),
    ]);
    return await run(join(folder, 'main.js'), args);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function compile(from: string, to: string): Promise<void> {
  const { code } = await transform(await readFile(from, 'utf8'), { ...SWC, filename: from });
  await mkdir(dirname(to), { recursive: true });
  await writeFile(to.replace(/\.ts$/, '.js'), code.replaceAll("'nestjs-state'", "'./lib/index.js'"));
}

function run(file: string, args: readonly string[]): Promise<Exit> {
  const child = spawn(process.execPath, [file, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (output += chunk.toString()));
  const impatience = setTimeout(() => child.kill('SIGKILL'), PATIENCE_MS);
  return new Promise((done) => {
    child.once('close', (code) => {
      clearTimeout(impatience);
      done({ code, output });
    });
  });
}

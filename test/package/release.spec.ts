import { execFileSync } from 'node:child_process';
import { copyFile, cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { environment } from '../support/process.js';
import { ROOT } from './manifest.js';
import { run } from './npm.js';

const CHANGELOG = '# Changelog\n\n## [1.2.0] - Unreleased\n\n- Something new.\n\n## [1.1.0] - 2026-01-01\n';

let folder: string;
const git = (...args: string[]): string =>
  execFileSync('git', args, { cwd: folder, encoding: 'utf8', env: environment() }).trim();
const release = (...args: string[]): Promise<string> =>
  run(process.execPath, ['release.mjs', ...args], folder);

let template: string;

beforeAll(async () => {
  template = await mkdtemp(join(tmpdir(), 'nestjs-state-release-'));
  folder = template;
  const scripts = {
    lint: 'true',
    'check:package': 'true',
    test: 'node -e "process.exit(process.env.BROKEN)"',
  };
  await writeFile(
    join(folder, 'package.json'),
    `${JSON.stringify({ name: 'a-package', version: '1.1.0', scripts }, undefined, 2)}\n`,
  );
  await writeFile(join(folder, 'CHANGELOG.md'), CHANGELOG);
  await writeFile(join(folder, '.gitignore'), '*.tgz\n');
  await copyFile(join(ROOT, 'scripts/release.mjs'), join(folder, 'release.mjs'));
  await run('npm', ['install', '--package-lock-only', '--no-audit', '--no-fund'], folder);
  git('init', '--quiet');
  git('config', 'user.name', 'Somebody');
  git('config', 'user.email', 'somebody@example.com');
  git('add', '.');
  git('commit', '--quiet', '--message', 'Begin');
});

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'nestjs-state-release-'));
  await cp(template, folder, { recursive: true });
});

afterEach(() => rm(folder, { recursive: true, force: true }));
afterAll(() => rm(template, { recursive: true, force: true }));

describe('A release', () => {
  it('is checked, packed, committed and tagged', async () => {
    const printed = await release('1.2.0');
    expect(printed).toMatch(/a-package-1\.2\.0\.tgz: sha512-/);
    expect(git('tag', '--list')).toBe('v1.2.0');
    expect(git('log', '-1', '--format=%s')).toBe('Release 1.2.0');
    expect(git('status', '--porcelain')).toBe('');
    const manifest = JSON.parse(await readFile(join(folder, 'package.json'), 'utf8')) as { version: string };
    expect(manifest.version).toBe('1.2.0');
    expect(await readFile(join(folder, 'CHANGELOG.md'), 'utf8')).toMatch(
      /^## \[1\.2\.0\] - \d{4}-\d\d-\d\d$/m,
    );
    expect((await readFile(join(folder, 'a-package-1.2.0.tgz'))).length).toBeGreaterThan(100);
  });

  it.each([
    ['without a version', [], /name the version/],
    ['of what is no version', ['next'], /name the version/],
    ['of an earlier version', ['1.0.9'], /1\.0\.9 is not later than 1\.1\.0/],
    ['that the changelog does not know', ['1.3.0'], /no section "## \[1\.3\.0\] - Unreleased"/],
  ])('%s is refused', async (_what, args, message) => {
    await expect(release(...args)).rejects.toThrow(message);
    expect(git('tag', '--list')).toBe('');
  });

  it('of what is not committed is refused', async () => {
    await writeFile(join(folder, 'more.txt'), 'more');
    await expect(release('1.2.0')).rejects.toThrow(/not committed/);
  });

  it('that does not pass leaves everything as it was', async () => {
    await writeFile(
      join(folder, 'package.json'),
      (await readFile(join(folder, 'package.json'), 'utf8')).replace('process.env.BROKEN', '1'),
    );
    git('commit', '--quiet', '--all', '--message', 'Break the tests');
    await expect(release('1.2.0')).rejects.toThrow(/No release/);
    expect(git('tag', '--list')).toBe('');
    expect(git('status', '--porcelain')).toBe('');
    expect(await readFile(join(folder, 'CHANGELOG.md'), 'utf8')).toBe(CHANGELOG);
  });
});

import { readFile } from 'node:fs/promises';
import { describe, expect, it } from '@jest/globals';
import { ROOT } from './manifest.js';
import { pack } from './npm.js';

describe('The tarball', () => {
  it('has the built package, its documents, and nothing else', async () => {
    const { files } = await pack(ROOT, '--dry-run');
    const paths = files.map(({ path }) => path);
    // What it ships beside itself is what the README leads to: no link of it is dead in the package.
    const linked = [...(await readFile(`${ROOT}/README.md`, 'utf8')).matchAll(/\]\(([\w./-]+)\)/g)].map(
      ([, to]) => to,
    );
    const documents = paths.filter((path) => !path.startsWith('dist/'));
    expect(new Set(documents)).toEqual(new Set(['LICENSE', 'README.md', 'package.json', ...linked]));
    expect(paths).toEqual(expect.arrayContaining(['dist/index.js', 'dist/index.d.ts']));
    const built = paths.filter((path) => path.startsWith('dist/'));
    expect(built.filter((path) => !/\.(js|js\.map|d\.ts)$/.test(path))).toEqual([]);
    expect(built.filter((path) => /[.-]spec\.|sample/.test(path))).toEqual([]);
  }, 60_000);
});

import { describe, expect, it } from '@jest/globals';
import { ROOT } from './manifest.js';
import { pack } from './npm.js';

describe('The tarball', () => {
  it('has the built package, its documents, and nothing else', async () => {
    const { files } = await pack(ROOT, '--dry-run');
    const paths = files.map(({ path }) => path);
    const documents = paths.filter((path) => !path.startsWith('dist/'));
    expect(documents.sort()).toEqual(['CHANGELOG.md', 'LICENSE', 'README.md', 'package.json']);
    expect(paths).toEqual(expect.arrayContaining(['dist/index.js', 'dist/index.d.ts']));
    const built = paths.filter((path) => path.startsWith('dist/'));
    expect(built.filter((path) => !/\.(js|js\.map|d\.ts)$/.test(path))).toEqual([]);
    expect(built.filter((path) => /[.-]spec\.|sample/.test(path))).toEqual([]);
  }, 60_000);
});

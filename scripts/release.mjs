// Makes a release: `npm run release -- 1.2.3`. Checks everything, packs, commits and tags; publishes nothing. What it has
// changed is taken back when a step fails.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';

const CHANGED = ['CHANGELOG.md', 'package.json', 'package-lock.json'];
/** What has to pass, as scripts of the package. */
const CHECKS = ['lint', 'check:package', 'test'];
const SEMVER = /^(\d+)\.(\d+)\.(\d+)(?:-([\w.-]+))?$/;

class ReleaseError extends Error {}

const git = (...args) => execFileSync('git', args, { encoding: 'utf8' }).trim();
const npm = (...args) => execFileSync('npm', args, { stdio: ['ignore', 'inherit', 'inherit'] });
const demand = (condition, message) => {
  if (!condition) throw new ReleaseError(message);
};

try {
  release();
} catch (error) {
  if (!(error instanceof ReleaseError)) console.error(error);
  console.error(`\nNo release: ${error.message}`);
  process.exitCode = 1;
}

function release() {
  const { positionals } = parseArgs({ allowPositionals: true });
  const [version] = positionals;
  const { name, version: current } = JSON.parse(readFileSync('package.json', 'utf8'));
  demand(
    positionals.length === 1 && SEMVER.test(version),
    'name the version: npm run release -- 1.2.3, or 1.2.3-beta.1.',
  );
  demand(
    version === current || isLater(version, current),
    `${version} is not later than ${current}, the version of package.json.`,
  );
  demand(git('status', '--porcelain') === '', 'there are changes that are not committed.');
  demand(git('tag', '--list', `v${version}`) === '', `the tag v${version} exists already.`);
  const heading = `## [${version}] - Unreleased`;
  const changelog = readFileSync('CHANGELOG.md', 'utf8');
  demand(changelog.includes(heading), `CHANGELOG.md has no section "${heading}".`);
  demand(sectionOf(changelog, heading) !== '', `CHANGELOG.md says nothing under "${heading}".`);

  try {
    const today = new Date().toISOString().slice(0, 10);
    writeFileSync('CHANGELOG.md', changelog.replace(heading, `## [${version}] - ${today}`));
    npm('version', version, '--no-git-tag-version', '--allow-same-version');
    for (const check of CHECKS) npm('run', check);
    npm('pack');
  } catch (error) {
    git('checkout', '--', ...CHANGED);
    throw error;
  }
  const tarball = `${name}-${version}.tgz`;
  const hash = createHash('sha512').update(readFileSync(tarball)).digest('base64');
  git('add', ...CHANGED);
  git('commit', '--quiet', '--message', `Release ${version}`);
  git('tag', '--annotate', `v${version}`, '--message', `${name} ${version}`);
  console.log(`\n${tarball}: sha512-${hash}`);
  console.log(
    `Committed and tagged v${version}. To publish it: git push --follow-tags && npm publish ${tarball}`,
  );
}

/** What stands under a heading, up to the next one of its kind. */
function sectionOf(changelog, heading) {
  const rest = changelog.slice(changelog.indexOf(heading) + heading.length);
  return rest.split(/^## /m, 1)[0].trim();
}

function isLater(version, than) {
  const [a, b] = [version, than].map((text) => SEMVER.exec(text));
  for (const part of [1, 2, 3]) if (a[part] !== b[part]) return Number(a[part]) > Number(b[part]);
  // A version that only comes before another one, such as a beta, is earlier than that.
  if (a[4] === undefined || b[4] === undefined) return b[4] !== undefined;
  return a[4].localeCompare(b[4], 'en', { numeric: true }) > 0;
}

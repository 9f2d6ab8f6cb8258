// Run by `npm test` after setup.mjs. With arguments it is jest with those arguments. Without any it runs every test, in
// three parts, and its last line is the totals of all: most files spend their time waiting, and share the machine; of those
// below two at a time have it afterwards, and the last ones have it for themselves.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { conformanceTable } from './conformance-table.mjs';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const WORKERS = 4;
/** Files that measure how long things take, or start what needs more than one core: more than two are too many. */
const IN_PAIRS = [
  // They wait most of the time, for no longer than they say.
  'test/faults/redis-outage.spec.ts',
  'test/faults/redis-waiting.spec.ts',
  // They build, install, and start browsers.
  'test/e2e/board.e2e-spec.ts',
  'test/e2e/browser.e2e-spec.ts',
  'test/e2e/cluster.e2e-spec.ts',
  'test/e2e/inspector-browser.e2e-spec.ts',
  'test/package/install.spec.ts',
];
/** Files that keep every core busy while they measure. */
const ALONE = [
  'test/faults/redis-processes.spec.ts',
  'test/unit/managers/memory/memory-at-scale.spec.ts',
  'test/unit/managers/memory/memory-hooks.spec.ts',
];

const args = process.argv.slice(2);
if (args.length > 0) process.exitCode = jest(args);
else runAll();

function runAll() {
  const later = [...IN_PAIRS, ...ALONE];
  const missing = later.filter((file) => !existsSync(join(ROOT, file)));
  if (missing.length > 0) throw new Error(`No such file: ${missing.join(', ')}.`);
  const isLater = later.map((file) => `/${file.replaceAll('.', '\\.')}$`);
  const parts = [
    count(['--maxWorkers', String(WORKERS), '--testPathIgnorePatterns', ...isLater]),
    count(['--maxWorkers', '2', '--runTestsByPath', ...IN_PAIRS]),
    count(['--runInBand', '--runTestsByPath', ...ALONE]),
  ];
  const [passed, failed] = ['passed', 'failed'].map((of) => parts.reduce((sum, part) => sum + part[of], 0));
  process.exitCode = failed === 0 && passed > 0 ? 0 : 1;
  console.log(`\n${conformanceTable(parts.flatMap(({ conformance }) => conformance))}`);
  console.log(`\n${passed} passed, ${failed} failed`);
}

/** Runs jest and counts its tests. Whatever fails without a failed test, such as a file that cannot be loaded, counts as one. */
function count(part) {
  const folder = mkdtempSync(join(tmpdir(), 'nestjs-state-test-'));
  const report = join(folder, 'report.json');
  try {
    const status = jest(['--json', '--outputFile', report, ...part]);
    const files = existsSync(report) ? JSON.parse(readFileSync(report, 'utf8')).testResults : [];
    let passed = 0;
    let failed = 0;
    const conformance = [];
    for (const file of files) {
      const tests = file.assertionResults;
      if (file.name.includes('/test/conformance/')) conformance.push(...tests);
      const failures = tests.filter((test) => test.status === 'failed').length;
      passed += tests.filter((test) => test.status === 'passed').length;
      failed += failures === 0 && file.status === 'failed' ? 1 : failures;
    }
    return { passed, failed: status !== 0 && failed === 0 ? 1 : failed, conformance };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** The exit code of jest. */
function jest(options) {
  const { status, signal, error } = spawnSync(
    process.execPath,
    ['--experimental-vm-modules', 'node_modules/jest/bin/jest.js', ...options],
    { cwd: ROOT, stdio: 'inherit' },
  );
  if (error !== undefined) throw error;
  // Somebody ended it, and wants no second part.
  if (signal !== null) process.kill(process.pid, signal);
  return status ?? 1;
}

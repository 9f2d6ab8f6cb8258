import { afterEach, beforeEach, describe } from '@jest/globals';
import { RecordedLogs } from '../support/manager-logs.js';
import { contextSuite } from './context.suite.js';
import { contentionSuite } from './contention.suite.js';
import { deleteSuite } from './delete.suite.js';
import { deploysSuite } from './deploys.suite.js';
import { eventsSuite } from './events.suite.js';
import { exclusiveSuite } from './exclusive.suite.js';
import { expirationSuite } from './expiration.suite.js';
import type { ConformanceHarness } from './harness.js';
import { hooksSuite } from './hooks.suite.js';
import { inspectionSuite } from './inspection.suite.js';
import { leaseSuite } from './lease.suite.js';
import { leftoversSuite } from './leftovers.suite.js';
import { lifecycleSuite } from './lifecycle.suite.js';
import { quietSuite } from './quiet.suite.js';
import { readsSuite } from './reads.suite.js';
import { reentrancySuite } from './reentrancy.suite.js';
import { renameSuite } from './rename.suite.js';
import { resultsSuite } from './results.suite.js';
import { severalSuite } from './several.suite.js';
import { timeSuite } from './time.suite.js';
import { transactionsSuite } from './transactions.suite.js';
import { partsSuite } from './parts.suite.js';
import { valuesSuite } from './values.suite.js';
import { waitingSuite } from './waiting.suite.js';
import { watchSuite } from './watch.suite.js';

const SUITES = [
  exclusiveSuite,
  contentionSuite,
  transactionsSuite,
  readsSuite,
  expirationSuite,
  leftoversSuite,
  leaseSuite,
  waitingSuite,
  reentrancySuite,
  contextSuite,
  deleteSuite,
  renameSuite,
  valuesSuite,
  partsSuite,
  deploysSuite,
  lifecycleSuite,
  timeSuite,
  quietSuite,
  resultsSuite,
  severalSuite,
  eventsSuite,
  watchSuite,
  hooksSuite,
  inspectionSuite,
];

/** Everything a manager promises, asked of the one that `harness` opens. */
export function describeConformance(harness: ConformanceHarness): void {
  describeSuite((opened) => {
    for (const suite of SUITES) suite(opened);
  }, harness);
}

/** One topic of it. */
export function describeSuite(
  suite: (harness: ConformanceHarness) => void,
  harness: ConformanceHarness,
): void {
  describe(harness.name, () => {
    beforeEach(() => {
      RecordedLogs.start();
    });
    afterEach(() => harness.close());
    suite(harness);
  });
}

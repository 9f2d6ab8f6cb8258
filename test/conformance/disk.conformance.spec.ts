import { describeConformance } from './conformance.js';
import { diskHarness } from './disk-harness.js';

// Where nobody waits for the disk no time passes, so that a clock that stands still will do.
describeConformance(
  diskHarness('disk manager with flushInterval, fake clock', 'fake', { disk: { flushInterval: '1s' } }),
);
describeConformance(diskHarness('disk manager, real clock', 'real'));

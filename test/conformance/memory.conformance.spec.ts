import { openMemoryManager } from '../support/manager-memory.js';
import { describeConformance } from './conformance.js';
import type { ConformanceHarness } from './harness.js';
import { localHarness } from './local-harness.js';

function memoryHarness(clock: ConformanceHarness['clock']): ConformanceHarness {
  return localHarness({
    name: `memory manager, ${clock} clock`,
    mode: 'memory',
    clock,
    open: openMemoryManager,
  });
}

describeConformance(memoryHarness('fake'));
describeConformance(memoryHarness('real'));

import { FakeClock } from '../support/fake-clock.js';
import { openMemoryManager } from '../support/manager-memory.js';
import { describeConformance } from './conformance.js';
import { passTime, type ConformanceHarness, type OpenManager } from './harness.js';

function memoryHarness(clock: ConformanceHarness['clock']): ConformanceHarness {
  const opened: OpenManager[] = [];
  let fakeClock = new FakeClock();
  return {
    name: `memory manager, ${clock} clock`,
    mode: 'memory',
    clock,
    async open(options) {
      const manager = await openMemoryManager(options, clock === 'fake' ? fakeClock : undefined);
      opened.push(manager);
      return manager;
    },
    async advance(ms) {
      await (clock === 'fake' ? fakeClock.advance(ms) : passTime(ms));
    },
    block(ms) {
      if (clock === 'fake') fakeClock.block(ms);
      else for (const endMs = performance.now() + ms; performance.now() < endMs;);
    },
    async close() {
      const closing = Promise.all(opened.splice(0).map((manager) => manager.onModuleDestroy()));
      // Whatever a failed test left open is not waited for.
      if (clock === 'fake') await fakeClock.advance(3_600_000);
      await closing;
      fakeClock = new FakeClock();
    },
  };
}

describeConformance(memoryHarness('fake'));
describeConformance(memoryHarness('real'));

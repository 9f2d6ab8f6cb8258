import type { StateModuleOptions } from 'nestjs-state';
import { FakeClock } from '../support/fake-clock.js';
import { blockLoop, passTime, type ConformanceHarness, type OpenManager } from './harness.js';

/** A manager whose states are those of this process, and which goes by the clock it is given. */
export interface LocalManagers extends Pick<ConformanceHarness, 'name' | 'mode' | 'clock'> {
  /** Opens one on an empty store. Without a clock it takes that of the machine. */
  open(options: StateModuleOptions | undefined, clock: FakeClock | undefined): Promise<OpenManager>;
  /**
   * Whether some of its work takes real time, and what was waited for with it comes due after the clock was moved.
   * @default false
   */
  readonly takesRealTime?: boolean;
  /** Removes the stores of all that were opened, and are closed. */
  clear?(): Promise<void>;
}

/** What the suites need of a manager that shares its store with nobody. */
export function localHarness(managers: LocalManagers): ConformanceHarness {
  const { name, mode, clock, takesRealTime = false } = managers;
  const isFake = clock === 'fake';
  const opened: OpenManager[] = [];
  let fakeClock = new FakeClock();
  let pump: NodeJS.Timeout | undefined;
  return {
    name,
    mode,
    clock,
    async open(options) {
      if (isFake && takesRealTime) pump ??= setInterval(() => void fakeClock.advance(0), 1);
      const manager = await managers.open(options, isFake ? fakeClock : undefined);
      opened.push(manager);
      return manager;
    },
    async advance(ms) {
      await (isFake ? fakeClock.advance(ms) : passTime(ms));
    },
    block(ms) {
      if (isFake) fakeClock.block(ms);
      else blockLoop(ms);
    },
    async close() {
      const closing = Promise.all(opened.splice(0).map((manager) => manager.onModuleDestroy()));
      // Whatever a failed test left open is not waited for.
      if (isFake) await fakeClock.advance(3_600_000);
      await closing;
      clearInterval(pump);
      pump = undefined;
      fakeClock = new FakeClock();
      await managers.clear?.();
    },
  };
}

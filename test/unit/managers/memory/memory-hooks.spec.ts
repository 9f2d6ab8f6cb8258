import { afterEach, describe, expect, it } from '@jest/globals';
import { StateToken, type StateHookReason } from 'nestjs-state';
import type { MemoryStateManager } from '../../../../lib/managers/memory/memory-state.manager.js';
import { CounterState } from '../../../conformance/states.js';
import { longestWorkMs } from '../../../support/event-loop.js';
import { FakeClock } from '../../../support/fake-clock.js';
import { RecordedLogs } from '../../../support/manager-logs.js';
import { openMemoryManager } from '../../../support/manager-memory.js';

const MANY = 100_000;
/** More than a slice of the sweep and one of the hooks, and what the garbage collector takes in between. */
const LONGEST_WORK_MS = 250;

let manager: MemoryStateManager | undefined;
afterEach(() => manager?.onModuleDestroy());

function onState(reason: StateHookReason, call: (count: number, ident: string) => unknown): void {
  manager?.addHook({
    cls: CounterState,
    reason,
    name: 'Hooks.method',
    call: (state, { token }) => call((state as CounterState).count, token.ident),
  });
}

async function storeMany(many: number): Promise<void> {
  for (let index = 1; index <= many; index += 1)
    await manager?.modifyState(
      new StateToken(`ident-${index}`, CounterState),
      (state) => void (state.count = index),
    );
}

describe('hooks of the memory manager', () => {
  it('are called exactly once for each of 100,000 states that are due at once, and leave the loop to others', async () => {
    RecordedLogs.start();
    manager = await openMemoryManager({ expiration: '6s' });
    const calls = new Map<string, number[]>();
    let called = 0;
    onState('expired', (count, ident) => {
      called += 1;
      calls.set(ident, [...(calls.get(ident) ?? []), count]);
      // Those that reject are begun as all others are.
      return count % 1_000 === 0 ? Promise.reject(new Error('of a hook')) : undefined;
    });
    await storeMany(MANY);
    const keptAlive = performance.now() + 60_000;
    const workMs = await longestWorkMs(
      () => undefined,
      () => called >= MANY || performance.now() > keptAlive,
    );
    await new Promise((resolve) => setTimeout(resolve, 50));

    expect(called).toBe(MANY);
    expect(calls.size).toBe(MANY);
    for (let index = 1; index <= MANY; index += 1)
      if (calls.get(`ident-${index}`)?.[0] !== index)
        throw new Error(`ident-${index} was not told what it was.`);
    expect(workMs).toBeLessThan(LONGEST_WORK_MS);
    expect(manager.stats().states).toBe(0);
  }, 120_000);

  it('that block are called in slices: others run in between', async () => {
    manager = await openMemoryManager({ expiration: 200 });
    let called = 0;
    onState('expired', () => {
      for (const endMs = performance.now() + 3; performance.now() < endMs;);
      called += 1;
    });
    await storeMany(200);
    const keptAlive = performance.now() + 15_000;
    const workMs = await longestWorkMs(
      () => undefined,
      () => called >= 200 || performance.now() > keptAlive,
    );

    expect(called).toBe(200);
    expect(workMs).toBeLessThan(LONGEST_WORK_MS);
  });

  it('leave no timer, and keep no state once they were called', async () => {
    const clock = new FakeClock();
    manager = await openMemoryManager({ expiration: 100 }, clock);
    let called = 0;
    onState('created', () => (called += 1));
    onState('expired', () => (called += 1));
    await storeMany(50);
    await clock.advance(300);

    expect(called).toBe(100);
    expect(clock.pendingTimers).toBe(0);
    expect(await manager.count()).toBe(0);
  });

  it('start no timer where there is none for the event', async () => {
    const clock = new FakeClock();
    manager = await openMemoryManager({ expiration: '1h' }, clock);
    await storeMany(1);
    const before = clock.pendingTimers;
    onState('deleted', () => undefined);
    await storeMany(10);

    expect(clock.pendingTimers).toBe(before);
  });

  it('that fail are logged by a logger that throws without harm to the others', async () => {
    const clock = new FakeClock();
    const logs = RecordedLogs.start();
    logs.error = () => {
      throw new Error('of the logger');
    };
    manager = await openMemoryManager({}, clock);
    let called = 0;
    onState('created', () => Promise.reject(new Error('of the hook')));
    onState('created', () => {
      throw new Error('of the hook');
    });
    onState('created', () => (called += 1));
    await storeMany(3);
    await clock.advance(1);

    expect(called).toBe(3);
  });
});

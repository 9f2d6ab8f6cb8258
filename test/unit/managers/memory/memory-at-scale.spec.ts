import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { describe, expect, it } from '@jest/globals';
import { State, StateToken } from 'nestjs-state';
import { SystemClock, type ClockTimer } from '../../../../lib/internal/clock.js';
import type { MemoryStateManager } from '../../../../lib/managers/memory/memory-state.manager.js';
import { longestWorkMs } from '../../../support/event-loop.js';
import { openMemoryManager } from '../../../support/manager-memory.js';

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

@State('counter')
class CounterState {
  count = 0;
}

/** The clock of the machine, except that a test can make an hour pass: then every timer that is due fires. */
class JumpingClock extends SystemClock {
  private jumpedMs = 0;
  private readonly timers = new Map<ClockTimer, { dueMs: number; fire: () => void }>();

  override nowMs(): number {
    return super.nowMs() + this.jumpedMs;
  }

  override startTimer(fire: () => void, delayMs: number): ClockTimer {
    const timer = super.startTimer(() => {
      this.timers.delete(timer);
      fire();
    }, delayMs);
    this.timers.set(timer, { dueMs: this.nowMs() + delayMs, fire });
    return timer;
  }

  jump(ms: number): void {
    this.jumpedMs += ms;
    for (const [timer, { dueMs, fire }] of Array.from(this.timers)) {
      if (dueMs > this.nowMs()) continue;
      timer.cancel();
      this.timers.delete(timer);
      fire();
    }
  }
}

async function fill(manager: MemoryStateManager, count: number, prefix: string): Promise<void> {
  for (let index = 0; index < count; index += 1) {
    await manager.modifyState(new StateToken(`${prefix}:${index}`, CounterState), (state) => {
      state.count = index + 1;
    });
  }
}

describe('MemoryStateManager at scale', () => {
  it('100,000 states that are due in one instant are all gone, and never block the event loop for 30 ms', async () => {
    const roundsMs: number[] = [];
    // A large collection of garbage does not fall into the sweep of every round; a block that the sweep makes does.
    for (let round = 0; round < 6 && Math.min(...roundsMs, Infinity) >= 30; round += 1) {
      const clock = new JumpingClock();
      const manager = await openMemoryManager({ expiration: '1h' }, clock);
      const isEmpty = () => manager.stats().states === 0;
      await fill(manager, 100_000, `round ${round}`);
      expect(manager.stats().states).toBe(100_000);
      collectGarbage();
      roundsMs.push(await longestWorkMs(() => clock.jump(7_200_000), isEmpty));

      expect(await manager.count()).toBe(0);
      await manager.onModuleDestroy();
    }

    expect(Math.min(...roundsMs)).toBeLessThan(30);
  }, 120_000);

  it('three rounds of 50,000 idents leave the heap where it was', async () => {
    const clock = new JumpingClock();
    const manager = await openMemoryManager({ expiration: '1h' }, clock);
    const heapMiB: number[] = [];
    let fullMiB = 0;
    for (let round = 0; round < 4; round += 1) {
      await fill(manager, 50_000, `round ${round}`);
      if (round === 0) {
        collectGarbage();
        fullMiB = process.memoryUsage().heapUsed / 2 ** 20;
      }
      clock.jump(7_200_000);
      while (manager.stats().states !== 0) await new Promise((resolve) => setImmediate(resolve));
      collectGarbage();
      heapMiB.push(process.memoryUsage().heapUsed / 2 ** 20);
    }
    await manager.onModuleDestroy();
    const [first = 0, ...later] = heapMiB;

    // The first round warms up; what 50,000 idents take is what the others must not add.
    expect(fullMiB - first).toBeGreaterThan(8);
    for (const each of later) expect(each - first).toBeLessThan(3);
  }, 120_000);

  it('a lock that was held and waited for leaves nothing on the heap', async () => {
    const manager = await openMemoryManager();
    const round = async (): Promise<number> => {
      for (let index = 0; index < 5_000; index += 1) {
        const token = new StateToken(`ident:${index}`, CounterState);
        const controller = new AbortController();
        const turn = await manager.openTurn(token.ident);
        const calls = [
          manager.modifyState(token, (state) => state.count),
          manager.modifyState(token, () => 1, { signal: controller.signal }).catch(() => 1),
        ];
        controller.abort();
        await turn.rollback();
        await Promise.all(calls);
      }
      collectGarbage();
      return process.memoryUsage().heapUsed / 2 ** 20;
    };
    const first = await round();
    await round();
    const last = await round();
    expect(manager.stats()).toStrictEqual({ mode: 'memory', openTurns: 0, waiting: 0, states: 0 });
    await manager.onModuleDestroy();

    expect(last - first).toBeLessThan(3);
  }, 60_000);
});

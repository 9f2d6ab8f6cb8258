import { AsyncLocalStorage } from 'node:async_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, it, jest } from '@jest/globals';
import { SystemClock } from '../../../lib/internal/clock.js';

const LONGEST_MS = 2 ** 31 - 1;
const DAY_MS = 86_400_000;

describe('SystemClock', () => {
  afterEach(() => {
    jest.restoreAllMocks();
    jest.useRealTimers();
  });

  it('goes on when the wall clock is set back or forth', async () => {
    const clock = new SystemClock();
    const beforeMs = clock.nowMs();
    jest.spyOn(Date, 'now').mockReturnValue(0);
    await sleep(15);
    const elapsedMs = clock.nowMs() - beforeMs;

    expect(elapsedMs).toBeGreaterThan(10);
    expect(elapsedMs).toBeLessThan(5_000);
  });

  it('fires once, and not before its time by its own reckoning', async () => {
    const clock = new SystemClock();
    const early: number[] = [];
    let fired = 0;
    await Promise.all(
      Array.from({ length: 60 }, async (_, index) => {
        const delayMs = (index % 20) + 0.3;
        await sleep(index % 7);
        const startMs = clock.nowMs();
        await new Promise<void>((resolve) => {
          clock.startTimer(() => {
            fired += 1;
            if (clock.nowMs() - startMs < delayMs) early.push(clock.nowMs() - startMs - delayMs);
            resolve();
          }, delayMs);
        });
      }),
    );
    await sleep(30);

    expect(fired).toBe(60);
    expect(early).toStrictEqual([]);
  });

  it('does not fire when it was cancelled; cancelling twice or late does nothing', async () => {
    const clock = new SystemClock();
    let fired = 0;
    const cancelled = clock.startTimer(() => (fired += 1), 5);
    cancelled.cancel();
    cancelled.cancel();
    const immediate = clock.startImmediate(() => (fired += 1));
    immediate.cancel();
    const late = clock.startTimer(() => (fired += 1), 1);
    await sleep(30);
    late.cancel();

    expect(fired).toBe(1);
  });

  it.each([
    ['a day more than the longest timeout', LONGEST_MS + DAY_MS],
    ['a year', 365 * DAY_MS],
  ])('waits %s, in steps that Node can wait', (_, delayMs) => {
    jest.useFakeTimers();
    const delays = jest.spyOn(globalThis, 'setTimeout');
    const clock = new SystemClock();
    let fired = 0;
    clock.startTimer(() => (fired += 1), delayMs);
    jest.advanceTimersByTime(delayMs - 5);
    expect(fired).toBe(0);
    jest.advanceTimersByTime(10);

    expect(fired).toBe(1);
    for (const [, stepMs] of delays.mock.calls) expect(stepMs).toBeLessThanOrEqual(LONGEST_MS);
    expect(jest.getTimerCount()).toBe(0);
  });

  it('can be cancelled in any step of a long wait', () => {
    jest.useFakeTimers();
    const clock = new SystemClock();
    let fired = 0;
    const timer = clock.startTimer(() => (fired += 1), 3 * LONGEST_MS);
    jest.advanceTimersByTime(LONGEST_MS + 1_000);
    timer.cancel();
    expect(jest.getTimerCount()).toBe(0);
    jest.advanceTimersByTime(3 * LONGEST_MS);

    expect(fired).toBe(0);
  });

  it.each([-5, 0])('a delay of %i ms fires as soon as it can', async (delayMs) => {
    const clock = new SystemClock();
    await new Promise<void>((resolve) => void clock.startTimer(resolve, delayMs));
  });

  it.each([
    ['does not keep Node alive', undefined, false],
    ['does not keep Node alive for housekeeping', 'housekeeping', false],
    ['keeps Node alive for who waits', 'awaited', true],
  ] as const)('%s', (_, use, isKept) => {
    const timer = new SystemClock().startTimer(() => undefined, 60_000, use);

    expect((timer.handle as NodeJS.Timeout).hasRef()).toBe(isKept);
    timer.cancel();
  });

  it('retains nothing of the async context its timers are started in', async () => {
    const storage = new AsyncLocalStorage<string>();
    const clock = new SystemClock();
    const seen: unknown[] = [];
    await storage.run('request', async () => {
      await new Promise<void>((resolve) => {
        clock.startTimer(() => {
          seen.push(storage.getStore());
          resolve();
        }, 1);
      });
      await new Promise<void>((resolve) => {
        clock.startImmediate(() => {
          seen.push(storage.getStore());
          resolve();
        });
      });
    });

    expect(seen).toStrictEqual([undefined, undefined]);
  });
});

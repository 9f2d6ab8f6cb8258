import { describe, expect, it } from '@jest/globals';
import type { ClockTimer } from '../../../lib/internal/clock.js';
import { DeadlineQueue, type DeadlineNode } from '../../../lib/internal/deadline-queue.js';
import { DeadlineWorker } from '../../../lib/internal/deadline-worker.js';
import { FakeClock } from '../../support/fake-clock.js';

class Item implements DeadlineNode {
  previous: DeadlineNode | undefined = undefined;
  next: DeadlineNode | undefined = undefined;
  deadlineMs = 0;

  constructor(readonly name: string | number = '') {}
}

const setUp = (onDue: (item: Item) => void = () => undefined) => {
  const clock = new FakeClock();
  const queue = new DeadlineQueue<Item>();
  const due: [string | number, number][] = [];
  const errors: unknown[] = [];
  const timers: (ClockTimer | undefined)[] = [];
  const startMs = clock.nowMs();
  const worker = new DeadlineWorker(queue, {
    clock,
    onDue: (item) => {
      due.push([item.name, Math.round(clock.nowMs() - startMs)]);
      onDue(item);
    },
    onError: (error) => errors.push(error),
    onTimer: (timer) => timers.push(timer),
  });
  const add = (name: string | number, delayMs: number): Item => {
    const item = new Item(name);
    queue.push(item, clock.nowMs() + delayMs);
    worker.wakeInTime();
    return item;
  };
  return { clock, queue, worker, due, errors, timers, add };
};

describe('DeadlineWorker', () => {
  it('has no timer when nothing is tracked, one however much is', () => {
    const { clock, worker, add } = setUp();
    worker.start();
    expect(clock.pendingTimers).toBe(0);
    add('a', 100);
    expect(clock.pendingDelaysMs).toStrictEqual([100]);
    for (let index = 0; index < 50; index += 1) add(index, 100 + index);

    expect(clock.pendingDelaysMs).toStrictEqual([100]);
  });

  it('sleeps exactly until the next deadline, then until the one after it', async () => {
    const { clock, worker, due, add } = setUp();
    worker.start();
    add('a', 100);
    add('b', 250);
    await clock.advance(99);
    expect(due).toStrictEqual([]);
    await clock.advance(1);
    expect(due).toStrictEqual([['a', 100]]);
    expect(clock.pendingDelaysMs.map(Math.round)).toStrictEqual([150]);
    await clock.advance(1_000);

    expect(due).toStrictEqual([['a', 100], ['b', 250]]); // prettier-ignore
    expect(clock.pendingTimers).toBe(0);
  });

  it('a deadline that moved back is seen when the old one comes, and nothing is early', async () => {
    const { clock, queue, worker, due, add } = setUp();
    worker.start();
    const item = add('a', 100);
    await clock.advance(60);
    queue.push(item, clock.nowMs() + 100);
    worker.wakeInTime();
    expect(clock.pendingDelaysMs.map(Math.round)).toStrictEqual([40]);
    await clock.advance(99);
    expect(due).toStrictEqual([]);
    await clock.advance(1);

    expect(due).toStrictEqual([['a', 160]]);
  });

  it('watches what was pushed before it was started, and nothing after it was stopped', async () => {
    const { clock, worker, due, add } = setUp();
    add('a', 10);
    expect(clock.pendingTimers).toBe(0);
    worker.start();
    await clock.advance(20);
    expect(due).toHaveLength(1);
    add('b', 10);
    worker.stop();
    expect(clock.pendingTimers).toBe(0);
    add('c', 10);
    await clock.advance(100);

    expect(due).toHaveLength(1);
    expect(clock.pendingTimers).toBe(0);
  });

  it('rests when told to, and wakes again', async () => {
    const { clock, queue, worker, due, timers, add } = setUp();
    worker.start();
    const item = add('a', 10);
    queue.remove(item);
    worker.rest();
    worker.rest();
    expect(clock.pendingTimers).toBe(0);
    expect(timers.at(-1)).toBeUndefined();
    add('b', 10);
    await clock.advance(10);

    expect(due).toStrictEqual([['b', 10]]);
  });

  it('tells of its timer while it sleeps, and that there is none when it is awake or rests', async () => {
    const { clock, worker, timers, add } = setUp();
    worker.start();
    add('a', 10);
    add('b', 20);
    await clock.advance(30);

    expect(timers.map((timer) => timer !== undefined)).toStrictEqual([true, false, true, false]);
  });

  it('gives the event loop back after 4 ms of a sweep, and goes on after waiting I/O', async () => {
    let slices = 0;
    let inSlice = 0;
    const lengths: number[] = [];
    const { clock, worker, due, add } = setUp(() => {
      inSlice += 1;
      // Each item takes a tenth of a millisecond, by the clock the worker looks at.
      clock.block(0.1);
      setImmediate(() => {
        if (inSlice === 0) return;
        slices += 1;
        lengths.push(inSlice);
        inSlice = 0;
      });
    });
    worker.start();
    for (let index = 0; index < 1_000; index += 1) add(index, 10);
    await clock.advance(1_000);

    expect(due.map(([name]) => name)).toStrictEqual(Array.from({ length: 1_000 }, (_, index) => index));
    expect(slices).toBeGreaterThan(16);
    expect(Math.max(...lengths)).toBeLessThan(4 / 0.1 + 16 + 1);
    expect(clock.pendingTimers).toBe(0);
  });

  it('stops also between two slices', async () => {
    const { clock, worker, due, add } = setUp(() => {
      clock.block(1);
      if (due.length === 20) worker.stop();
    });
    worker.start();
    for (let index = 0; index < 100; index += 1) add(index, 10);
    await clock.advance(1_000);

    expect(due).toHaveLength(20);
    expect(clock.pendingTimers).toBe(0);
  });

  it('an onDue that throws is reported, and the rest follows a second later', async () => {
    const { clock, worker, due, errors, add } = setUp((item) => {
      if (item.name === 'b') throw new Error('broken');
    });
    worker.start();
    for (const name of ['a', 'b', 'c']) add(name, 10);
    await clock.advance(10);
    expect(due.map(([name]) => name)).toStrictEqual(['a', 'b']);
    expect(errors).toMatchObject([{ message: 'broken' }]);
    expect(clock.pendingDelaysMs.map(Math.round)).toStrictEqual([1_000]);
    await clock.advance(999);
    expect(due).toHaveLength(2);
    await clock.advance(1);

    expect(due.map(([name]) => name)).toStrictEqual(['a', 'b', 'c']);
    expect(clock.pendingTimers).toBe(0);
  });

  it.each([
    ['a sweep that needs several slices', false],
    ['a sweep that throws', true],
  ])('has one timer also when items are pushed in the middle of %s', async (_, throws) => {
    let most = 0;
    let pushed = 0;
    const { clock, worker, due, add } = setUp(() => {
      clock.block(1);
      if (pushed < 30) {
        pushed += 1;
        add(`pushed ${pushed}`, 5_000);
      }
      most = Math.max(most, clock.pendingTimers);
      if (throws && pushed === 5) throw new Error('broken');
    });
    worker.start();
    for (let index = 0; index < 60; index += 1) add(index, 10);
    for (let round = 0; round < 30; round += 1) {
      await clock.advance(1);
      most = Math.max(most, clock.pendingTimers);
    }
    await clock.advance(20_000);

    expect(due).toHaveLength(90);
    expect(most).toBe(1);
    expect(clock.pendingTimers).toBe(0);
  });
});

import type { Clock, ClockTimer } from './clock.js';
import type { DeadlineNode, DeadlineQueue } from './deadline-queue.js';

/** How long one slice of a sweep may keep the event loop, in milliseconds; the rest follows after waiting I/O. */
const SLICE_MS = 4;
/** How many items pass between two looks at the clock. */
const ITEMS_PER_LOOK = 16;
/** How long the worker rests after a sweep that threw, in milliseconds. */
const RETRY_MS = 1_000;

export interface DeadlineWorkerOptions<T> {
  clock: Clock;
  /** Called for each item that is due, after it left the queue. */
  onDue: (node: T) => void;
  /** Called when `onDue` threw; the worker goes on after a second. */
  onError: (error: unknown) => void;
  /** Told the running timer each time the worker goes to sleep, `undefined` when it wakes or rests. */
  onTimer?: (timer: ClockTimer | undefined) => void;
}

/**
 * Takes items out of a {@link DeadlineQueue} when they are due.
 *
 * Guarantee: never early; one timer at most, asleep until the first deadline, none when there is nothing to wait for;
 * never blocks the event loop for much more than {@link SLICE_MS}, however many items fall due at once.
 *
 * A deadline that moves back needs no call: the worker wakes at the old one, sees that nothing is due and sleeps on.
 */
export class DeadlineWorker<T extends DeadlineNode> {
  private running = false;
  private timer: ClockTimer | undefined;

  constructor(
    private readonly queue: DeadlineQueue<T>,
    private readonly options: DeadlineWorkerOptions<T>,
  ) {}

  start(): void {
    this.running = true;
    this.wakeInTime();
  }

  stop(): void {
    this.running = false;
    this.rest();
  }

  /** Call after a `push`: the worker goes to sleep until the first deadline unless it is asleep already. */
  wakeInTime(): void {
    if (this.timer !== undefined || !this.running) return;
    const first = this.queue.first;
    if (first !== undefined) this.sleep(first.deadlineMs - this.options.clock.nowMs());
  }

  /** Call when nothing is left to watch: no timer is running afterwards. */
  rest(): void {
    if (this.timer === undefined) return;
    this.timer.cancel();
    this.timer = undefined;
    this.options.onTimer?.(undefined);
  }

  private sleep(delayMs: number): void {
    this.timer = this.options.clock.startTimer(this.sweep, delayMs);
    this.options.onTimer?.(this.timer);
  }

  private readonly sweep = (): void => {
    this.timer = undefined;
    this.options.onTimer?.(undefined);
    try {
      const isUnfinished = this.takeSlice();
      // `onDue` may have pushed something, and so started a timer of its own.
      this.rest();
      if (isUnfinished && this.running) this.timer = this.options.clock.startImmediate(this.sweep);
      else this.wakeInTime();
    } catch (error) {
      this.rest();
      if (this.running) this.sleep(RETRY_MS);
      this.options.onError(error);
    }
  };

  /** Takes out what is due; true when time ran out before everything due was gone. */
  private takeSlice(): boolean {
    const { clock, onDue } = this.options;
    const startMs = clock.nowMs();
    let nowMs = startMs;
    for (let taken = 1; ; taken += 1) {
      const first = this.queue.first;
      if (first === undefined || first.deadlineMs > nowMs || !this.running) return false;
      this.queue.remove(first);
      onDue(first);
      if (taken % ITEMS_PER_LOOK === 0) {
        nowMs = clock.nowMs();
        if (nowMs - startMs >= SLICE_MS) return true;
      }
    }
  }
}

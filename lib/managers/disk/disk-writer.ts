import type { Clock, ClockTimer } from '../../internal/clock.js';
import { Deferred } from '../../internal/deferred.js';
import type { HeldStates } from '../held-states.js';
import type { DiskHold } from './disk-hold.js';
import type { DiskStore, IdentUse, IdentWrite } from './disk-store.js';

/** How long a use that changed nothing may be known in memory only, in milliseconds. */
const LONGEST_UNTOLD_MS = 1_000;
/** Of a window, at most that part. */
const UNTOLD_PART = 10;
/** How long nothing is tried again after a failure that nobody waits for, in milliseconds. */
const RETRY_MS = 1_000;

export interface DiskWriterOptions {
  readonly clock: Clock;
  readonly store: DiskStore;
  /** How long commits may wait for others; 0: callers wait for the disk. In milliseconds. */
  readonly flushIntervalMs: number;
  readonly windowMs: number;
  /** When an ident was used, and its states; `undefined` when it has none. */
  useOf(hash: string): IdentUse | undefined;
  /** What these have accepted before is on the disk, all of it together, as their views show it. */
  onWritten(views: ReadonlyMap<DiskHold, HeldStates>): void;
  /** Nothing of what waits could be written. Removals wait again. */
  onFailed(error: unknown): void;
  /** One of these has thrown. */
  onError(error: unknown): void;
}

/** What waits to be written of one ident. */
interface Waiting {
  hold: DiskHold | undefined;
  /** What the disk has goes first. */
  replaces: boolean;
}

/**
 * Brings commits to the disk: one transaction at a time, of everything that came while the one before was written.
 *
 * Guarantee: what was added in one tick is written together or not at all; the writes of an ident keep their order.
 * When a transaction fails nothing that waits is written either, since it may rest on what has failed. Cost: callers
 * share the wait for the disk, however many they are.
 */
export class DiskWriter {
  private waiting = new Map<string, Waiting>();
  /** Of what waits, and of what is being written. */
  private done = new Deferred();
  private writing: Deferred | undefined;
  private isScheduled = false;
  private timer: ClockTimer | undefined;
  private readonly untold = new Set<string>();
  private untoldTimer: ClockTimer | undefined;
  private readonly untoldMs: number;

  constructor(private readonly options: DiskWriterOptions) {
    this.untoldMs = Math.min(LONGEST_UNTOLD_MS, options.windowMs / UNTOLD_PART);
  }

  /** Whether callers wait for the disk. */
  get isAwaited(): boolean {
    return this.options.flushIntervalMs === 0;
  }

  /** When what `hold` has accepted is on the disk; `undefined` when nobody is to wait for that. */
  settled(hold: DiskHold): Promise<void> | undefined {
    if (!this.isAwaited || !hold.isUnwritten) return undefined;
    return (this.waiting.get(hold.hash)?.hold === hold ? this.done : this.writing)?.promise;
  }

  /** Something of `hold` is to be written. */
  add(hold: DiskHold): void {
    const { hash } = hold;
    this.waiting.set(hash, { hold, replaces: this.waiting.get(hash)?.replaces === true });
    this.schedule();
  }

  /** Everything of the ident is to go. */
  remove(hash: string): void {
    this.untold.delete(hash);
    this.waiting.set(hash, { hold: undefined, replaces: true });
    this.schedule();
  }

  /** Whether what the disk has of the ident is waiting to be removed. */
  isRemoving(hash: string): boolean {
    return this.waiting.get(hash)?.replaces === true;
  }

  /** A new window of the ident has begun: that is to be known after a restart, and in no hurry. */
  used(hash: string): void {
    this.untold.add(hash);
    this.untoldTimer ??= this.options.clock.startTimer(() => this.tell(), this.untoldMs);
  }

  /** Writes everything that waits. @throws what keeps it from being written. */
  async flush(): Promise<void> {
    this.tell();
    while (this.writing !== undefined || this.waiting.size > 0) {
      // What cannot even be begun has failed when `write` returns: nothing is being written then.
      const current = this.writing ?? this.done;
      if (this.writing === undefined) void this.write();
      await current.promise;
    }
  }

  /** No timer is running afterwards. */
  stop(): void {
    this.timer?.cancel();
    this.untoldTimer?.cancel();
  }

  private tell(): void {
    this.untoldTimer?.cancel();
    this.untoldTimer = undefined;
    for (const hash of this.untold) {
      if (!this.waiting.has(hash)) this.waiting.set(hash, { hold: undefined, replaces: false });
    }
    this.untold.clear();
    if (this.waiting.size > 0) this.schedule();
  }

  private schedule(): void {
    if (this.isAwaited) {
      if (this.isScheduled) return;
      this.isScheduled = true;
      // Not at once: what is added in this tick belongs together.
      queueMicrotask(() => {
        this.isScheduled = false;
        void this.write();
      });
    } else {
      this.writeIn(this.options.flushIntervalMs);
    }
  }

  private writeIn(delayMs: number): void {
    this.timer ??= this.options.clock.startTimer(() => {
      this.timer = undefined;
      void this.write();
    }, delayMs);
  }

  private async write(): Promise<void> {
    if (this.writing !== undefined || this.waiting.size === 0) return;
    const { waiting, done } = this;
    this.writing = done;
    this.waiting = new Map();
    this.done = new Deferred();
    this.timer?.cancel();
    this.timer = undefined;
    const views = new Map<DiskHold, HeldStates>();
    const writes: IdentWrite[] = [];
    try {
      for (const [hash, { hold, replaces }] of waiting) {
        this.untold.delete(hash);
        const taken = hold?.takeWrites();
        if (hold !== undefined) views.set(hold, hold.held.freeze());
        writes.push({
          hash,
          replaces: replaces || taken?.replaces === true,
          fields: taken?.fields ?? [],
          use: this.options.useOf(hash),
        });
      }
      await this.options.store.write(writes);
    } catch (error) {
      this.writing = undefined;
      this.fail(waiting, done, error);
      return;
    }
    this.writing = undefined;
    try {
      this.options.onWritten(views);
    } catch (error) {
      this.options.onError(error);
    }
    done.resolve();
    if (this.waiting.size > 0) this.schedule();
  }

  private fail(waiting: ReadonlyMap<string, Waiting>, done: Deferred, error: unknown): void {
    const later = this.waiting;
    const alsoDone = this.done;
    this.waiting = new Map();
    this.done = new Deferred();
    for (const [hash, { hold, replaces }] of [...waiting, ...later]) {
      // A use that was told of meanwhile is written with whatever else waits.
      if (hold === undefined && !replaces && this.waiting.has(hash)) continue;
      const isRemoved = replaces || this.waiting.get(hash)?.replaces === true;
      // Where callers wait they are told, and what they did is undone. What nobody waits for is tried again, and so is a
      // removal that came before what they did.
      const isUndone = this.isAwaited && hold !== undefined;
      if (isUndone && !isRemoved) continue;
      if (!isUndone) hold?.writeAgain();
      this.waiting.set(hash, { hold: isUndone ? undefined : hold, replaces: isRemoved });
    }
    try {
      this.options.onFailed(error);
    } catch (failure) {
      this.options.onError(failure);
    }
    done.reject(error);
    alsoDone.reject(error);
    if (this.waiting.size > 0) this.writeIn(RETRY_MS);
  }
}

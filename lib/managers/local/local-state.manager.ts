import type { SchedulerRegistry } from '@nestjs/schedule';
import type { Clock } from '../../internal/clock.js';
import { DeadlineQueue, type DeadlineNode } from '../../internal/deadline-queue.js';
import { DeadlineWorker } from '../../internal/deadline-worker.js';
import type { ResolvedStateOptions } from '../../state.options.js';
import { LockingStateManager } from '../locking-state.manager.js';
import type { StateCensus } from '../state-census.js';
import type { StateStats } from '../state.manager.js';
import { takeLocalCensus } from './local-census.js';

/** What the timer of the expiration worker is called in the `SchedulerRegistry`. */
export const EXPIRATION_TIMER = 'nestjs-state:expiration';

/**
 * What managers share whose states belong to this process alone: it knows all idents, and is the only one to use them.
 *
 * Idle idents stand in one list in the order of their deadlines; a locked ident is not in the list, which is all it takes
 * for states in use never to expire. One worker sleeps until the first deadline.
 */
export abstract class LocalStateManager<E extends DeadlineNode> extends LockingStateManager {
  /** Every ident with a state, by what the manager knows it by. */
  protected readonly entries = new Map<string, E>();
  protected readonly idle = new DeadlineQueue<E>();
  protected readonly expiration: DeadlineWorker<E>;
  protected stateCount = 0;

  /** @param schedulers Where the sleeping worker shows itself, the application's own registry if it has one. */
  constructor(options: ResolvedStateOptions, schedulers: () => SchedulerRegistry, clock: Clock) {
    super(options, clock);
    this.expiration = new DeadlineWorker(this.idle, {
      clock,
      onDue: (entry) => this.expire(entry),
      onError: (error) => this.logger.error('Expiring states failed, trying again in a second.', error),
      onTimer: (timer) => {
        const registry = schedulers();
        if (registry.doesExist('timeout', EXPIRATION_TIMER)) registry.deleteTimeout(EXPIRATION_TIMER);
        if (timer !== undefined) registry.addTimeout(EXPIRATION_TIMER, timer.handle);
      },
    });
  }

  async count(): Promise<number> {
    this.assertReadable();
    return this.entries.size;
  }

  stats(): StateStats {
    const { openTurns, mutex, stateCount } = this;
    return { mode: this.options.mode, openTurns, waiting: mutex.waiting, states: stateCount };
  }

  async takeCensus(limit: number): Promise<StateCensus> {
    this.assertReadable();
    return takeLocalCensus(
      {
        entries: this.entries,
        visitNames: (entry, visit) => this.visitNames(entry, visit),
        bytesOf: (entry, name) => this.bytesOf(entry, name),
      },
      limit,
    );
  }

  /** Calls `visit` with the name of each state of `entry`. */
  protected abstract visitNames(entry: E, visit: (name: string) => void): void;
  /** About how many bytes that state has, or `undefined` when that cannot be seen right now. */
  protected abstract bytesOf(entry: E, name: string): number | undefined;
  /** The window of `entry`, which nobody uses, is over. It has left the list. */
  protected abstract expire(entry: E): void;

  protected async openStore(): Promise<void> {
    this.expiration.start();
  }

  protected async closeStore(): Promise<void> {
    this.expiration.stop();
    for (let entry = this.idle.first; entry !== undefined; entry = this.idle.first) this.idle.remove(entry);
    this.entries.clear();
    this.stateCount = 0;
  }

  /** The entry of that key, unless its window is over: a worker that is late must not bring anything back. */
  protected liveEntry(key: string, nowMs?: number): E | undefined {
    const entry = this.entries.get(key);
    if (entry === undefined || !DeadlineQueue.isQueued(entry)) return entry;
    if ((nowMs ?? this.clock.nowMs()) < entry.deadlineMs) return entry;
    this.expire(entry);
    return undefined;
  }

  /** A new window begins. */
  protected touch(entry: E, nowMs: number): void {
    this.idle.push(entry, nowMs + this.options.expirationMs);
    this.expiration.wakeInTime();
  }

  /** With nothing stored and nobody in a turn no timer is left either. Otherwise one each may as well sleep on. */
  protected restIfEmpty(): void {
    if (this.entries.size > 0) return;
    this.expiration.rest();
    if (this.mutex.held === 0) this.restLeases();
  }
}

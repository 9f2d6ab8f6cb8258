import type { Clock } from '../../internal/clock.js';
import { DeadlineQueue, type DeadlineNode } from '../../internal/deadline-queue.js';
import { DeadlineWorker } from '../../internal/deadline-worker.js';

/** How much later than its window an ident is looked at, in milliseconds: Redis deletes after the millisecond is over. */
const GRACE_MS = 2;

export interface ExpirationWatchOptions {
  readonly clock: Clock;
  readonly windowMs: number;
  /** Whether the states of the ident are still there. */
  isStored(ident: string): Promise<boolean>;
  onExpired(ident: string, names: readonly string[]): void;
  onError(error: unknown): void;
}

class WatchedIdent implements DeadlineNode {
  previous: DeadlineNode | undefined = undefined;
  next: DeadlineNode | undefined = undefined;
  deadlineMs = 0;
  readonly names = new Set<string>();

  constructor(readonly ident: string) {}
}

/**
 * Notices that states have expired on a server that tells nobody: looks whether they are still there when their window,
 * as this process knows it, is over.
 *
 * Guarantee: tells of an ident that this process was the last to use, once, when its states are gone. Whoever is found
 * alive was used by another process, which will tell. Cost: one entry for each ident used within the last window, and
 * one question each time one falls due.
 */
export class ExpirationWatch {
  private readonly idents = new Map<string, WatchedIdent>();
  private readonly queue = new DeadlineQueue<WatchedIdent>();
  private readonly worker: DeadlineWorker<WatchedIdent>;

  constructor(private readonly options: ExpirationWatchOptions) {
    const { clock, onError } = options;
    this.worker = new DeadlineWorker(this.queue, {
      clock,
      onDue: (watched) => void this.look(watched),
      onError,
    });
    this.worker.start();
  }

  /** A window of the ident has begun, with these states at least. */
  touch(ident: string, names: readonly string[]): void {
    let watched = this.idents.get(ident);
    if (watched === undefined) {
      watched = new WatchedIdent(ident);
      this.idents.set(ident, watched);
    }
    for (const name of names) watched.names.add(name);
    const { clock, windowMs } = this.options;
    this.queue.push(watched, clock.nowMs() + windowMs + GRACE_MS);
    this.worker.wakeInTime();
  }

  /** The states of the ident are gone, and that has been said. */
  forget(ident: string): void {
    const watched = this.idents.get(ident);
    if (watched === undefined) return;
    this.queue.remove(watched);
    this.idents.delete(ident);
  }

  stop(): void {
    this.worker.stop();
    this.idents.clear();
  }

  private async look(watched: WatchedIdent): Promise<void> {
    const { ident, names } = watched;
    this.idents.delete(ident);
    try {
      if (await this.options.isStored(ident)) return;
    } catch (error) {
      this.options.onError(error);
      return;
    }
    // Somebody may have used it while the answer was on its way: then it is new, and the old one gone all the same.
    this.options.onExpired(ident, [...names]);
  }
}

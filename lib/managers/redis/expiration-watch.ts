import type { Clock, ClockTimer } from '../../internal/clock.js';
import { DeadlineQueue, type DeadlineNode } from '../../internal/deadline-queue.js';
import { DeadlineWorker } from '../../internal/deadline-worker.js';

/** How much later than its window an ident is looked at, in milliseconds: Redis deletes after the millisecond is over. */
const GRACE_MS = 2;
/** How much later those look who were not the last to use an ident, in milliseconds: only the last one knows its states. */
const YIELD_MS = 1_000;
/** By how much the clocks of two machines may differ about a window: in milliseconds, and for each millisecond of it. */
const DRIFT_MS = 50;
const DRIFT_PER_MS = 1 / 1_000;
const LONGEST_DRIFT_MS = 10_000;

/** What is kept of the states of an ident, by name, to be shown when they have expired. */
export type KeptRecords = ReadonlyMap<string, string | Uint8Array>;

/** How many milliseconds states still live, or whether nobody has noticed their end before. */
export type ExpirationLeft = number | 'first' | 'noticed';

export interface ExpirationWatchOptions {
  readonly clock: Clock;
  readonly windowMs: number;
  /** Looks how long the states of the ident still live. Calls one of the two functions, in a later tick. */
  look(ident: string, onLeft: (left: ExpirationLeft) => void, onFailed: (error: unknown) => void): void;
  onExpired(ident: string, names: readonly string[], records: KeptRecords): void;
  onError(error: unknown): void;
}

const NO_RECORDS: KeptRecords = new Map();

class WatchedIdent implements DeadlineNode {
  previous: DeadlineNode | undefined = undefined;
  next: DeadlineNode | undefined = undefined;
  deadlineMs = 0;
  readonly names = new Set<string>();
  /** Another process was the next to use it. */
  isYielding = false;
  /** A turn of this process has failed: nobody may have used it since, and yet its states live longer. */
  isInDoubt = false;
  records: Map<string, string | Uint8Array> | undefined = undefined;

  constructor(readonly ident: string) {}
}

/**
 * Notices that states have expired on a server that tells nobody: looks whether they are still there when their window,
 * as this process knows it, is over.
 *
 * Guarantee: tells of an ident that this process was the last to use, once, when its states are gone; where several
 * processes see the same end, one of them tells. Whoever is found alive was used by another process, which will tell.
 * Cost: one entry for each ident used within the last window, with the records it is to show, and one question each time
 * one falls due.
 */
export class ExpirationWatch {
  private readonly idents = new Map<string, WatchedIdent>();
  private readonly queue = new DeadlineQueue<WatchedIdent>();
  private readonly worker: DeadlineWorker<WatchedIdent>;
  private readonly again = new Set<ClockTimer>();
  private readonly driftMs: number;
  private readonly yieldMs: number;

  constructor(private readonly options: ExpirationWatchOptions) {
    const { clock, windowMs, onError } = options;
    this.driftMs = Math.min(DRIFT_MS + windowMs * DRIFT_PER_MS, windowMs / 4, LONGEST_DRIFT_MS);
    this.yieldMs = Math.min(YIELD_MS, windowMs / 4);
    this.worker = new DeadlineWorker(this.queue, {
      clock,
      onDue: (watched) => (watched.isYielding ? this.lookLater(watched, this.yieldMs) : this.look(watched)),
      onError,
    });
    this.worker.start();
  }

  /** A window of the ident has begun, with these states at least. */
  touch(ident: string, names: readonly string[], records: KeptRecords = NO_RECORDS): void {
    let watched = this.idents.get(ident);
    if (watched === undefined) {
      watched = new WatchedIdent(ident);
      this.idents.set(ident, watched);
    }
    watched.isYielding = false;
    watched.isInDoubt = false;
    for (const name of names) watched.names.add(name);
    for (const [name, record] of records) (watched.records ??= new Map()).set(name, record);
    const { clock, windowMs } = this.options;
    this.queue.push(watched, clock.nowMs() + windowMs + GRACE_MS);
    this.worker.wakeInTime();
  }

  /** Another process has begun to use the ident: it will tell, unless it dies. */
  yield(ident: string): void {
    const watched = this.idents.get(ident);
    if (watched !== undefined) watched.isYielding = true;
  }

  /**
   * A turn has taken the lock, or may have, and has not given it up itself: that makes the states live longer, and it is
   * no sign of another process that would tell of their end.
   */
  doubt(ident: string): void {
    const watched = this.idents.get(ident);
    if (watched !== undefined) watched.isInDoubt = true;
  }

  /** The states of the ident are gone, and that has been said. */
  forget(ident: string): WatchedIdent | undefined {
    const watched = this.idents.get(ident);
    if (watched === undefined) return undefined;
    this.queue.remove(watched);
    this.idents.delete(ident);
    return watched;
  }

  /**
   * A turn, or a read of that state, has found nothing stored. If their window is over the states have expired, and a
   * timer that is late must not keep it from being told before they are made anew; if not, somebody has deleted them.
   */
  foundNothing(ident: string, name?: string): void {
    const known = this.idents.get(ident);
    if (known === undefined || (name !== undefined && !known.names.has(name))) return;
    this.forget(ident);
    if (this.options.clock.nowMs() + this.driftMs >= known.deadlineMs) {
      // Those who look later are to find it noticed; nobody waits for that.
      this.options.look(ident, () => undefined, this.options.onError);
      this.tell(known);
    }
  }

  /** The window of the ident, as this process knows it, is over already: looks at once. */
  end(ident: string): void {
    const watched = this.idents.get(ident);
    if (watched === undefined) return;
    this.queue.remove(watched);
    // Whoever finds nothing before may tell.
    watched.deadlineMs = this.options.clock.nowMs();
    this.lookLater(watched, watched.isYielding ? this.yieldMs : 0);
  }

  stop(): void {
    this.worker.stop();
    this.idents.clear();
    for (const timer of this.again) timer.cancel();
    this.again.clear();
  }

  private look(watched: WatchedIdent): void {
    const { ident } = watched;
    this.idents.delete(ident);
    const { look, onError } = this.options;
    look(
      ident,
      (left) => {
        // Somebody may have used it while the answer was on its way: then it is new, and the old one gone all the same.
        if (left === 'first') this.tell(watched);
        // The clock of the server is a little behind; or another process has used it just after this one, and goes first.
        else if (left !== 'noticed' && (left <= this.driftMs || watched.isInDoubt)) {
          // Found alive once more it was used by another process.
          watched.isInDoubt = false;
          this.lookLater(watched, left + this.yieldMs);
        }
      },
      onError,
    );
  }

  private lookLater(watched: WatchedIdent, delayMs: number): void {
    const { ident } = watched;
    const known = this.idents.get(ident);
    // Used since the question was asked.
    if (known !== undefined && known !== watched) return;
    this.idents.set(ident, watched);
    const timer = this.options.clock.startTimer(() => {
      this.again.delete(timer);
      // Used since then, it stands in the queue again.
      if (this.idents.get(ident) === watched && !DeadlineQueue.isQueued(watched)) this.look(watched);
    }, delayMs + GRACE_MS);
    this.again.add(timer);
  }

  private tell({ ident, names, records }: WatchedIdent): void {
    this.options.onExpired(ident, [...names], records ?? NO_RECORDS);
  }
}

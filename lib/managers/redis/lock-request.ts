import type { Clock } from '../../internal/clock.js';
import { Deferred } from '../../internal/deferred.js';
import type { Grant, LockCommands, LockOwner } from './lock-commands.js';

/** `asking` for the first time; `waiting`; `over`: the lock was got, refused, or is not wanted any more. */
export type RequestPhase = 'asking' | 'waiting' | 'over';

/** The longest time between two looks at a lock that is waited for, in milliseconds. */
const LONGEST_RETRY_MS = 1_000;
/** The most by which a look is put off, so that those who wait for one lock do not all look at once. */
const RETRY_JITTER_MS = 20;

export interface LockRequestHost {
  readonly clock: Clock;
  readonly commands: LockCommands;
  readonly lockExpirationMs: number;
  /** The lock is this process's own until then, unless it is renewed. */
  granted(grant: Grant, untilMs: number): void;
  /** The lock is not to be had: it is not free and cannot be waited for, or the store does not answer. */
  refused(): void;
}

/**
 * How this process comes to the lock of one ident: it asks, and waits until the lock is handed over.
 *
 * Guarantee: whatever the server grants is either reported, once, or given back. A message that is lost costs one second
 * at most, because the server is asked again.
 */
export class LockRequest {
  phase: RequestPhase = 'asking';
  private readonly asked = new Deferred<boolean>();
  private wasGranted = false;
  private handedEarly: Grant | undefined;
  private granted: Deferred | undefined;
  private stopRetrying: (() => void) | undefined;

  /** @param canWait Without it the request is refused when the lock is not free. */
  constructor(
    private readonly host: LockRequestHost,
    private readonly lock: LockOwner,
    readonly canWait: boolean,
  ) {
    this.ask();
  }

  /** Settles with the answer to the first question: false when the lock is not to be had. For who finds it `asking`. */
  whenAsked(): Promise<boolean> {
    return this.asked.promise;
  }

  /** Settles when the lock has come; for who finds the request `waiting`. */
  whenGranted(): Promise<void> {
    return (this.granted ??= new Deferred()).promise;
  }

  /** The lock was handed over by the process that had it. */
  handed(grant: Grant): void {
    // Over the other socket it can come before the answer that says it has to be waited for.
    if (this.phase === 'asking') this.handedEarly = grant;
    else if (this.phase === 'waiting') this.grantHanded(grant, this.host.clock.nowMs());
    // It was asked for again at the same moment, and is here already.
  }

  /** Rejects whoever waits. They leave, and the last of them withdraws. */
  cancel(error: unknown): void {
    this.granted?.reject(error);
  }

  /** Nobody wants the lock any more. Settles when it, or the place on the wait list, is given back. */
  withdraw(): Promise<void> {
    this.end();
    return this.giveBack();
  }

  private ask(): void {
    const { host, lock, canWait } = this;
    const askedAtMs = host.clock.nowMs();
    host.commands.acquire(
      lock,
      canWait ? 'first' : 'no',
      (reply) => this.asked.resolve(this.answered(reply, askedAtMs)),
      (error) => {
        // Whoever has left before gives back what may have come all the same.
        if (this.phase === 'asking') {
          if (!host.commands.wasNeverSent(error)) void this.giveBack();
          this.refuse();
        }
        this.asked.reject(error);
      },
    );
  }

  /** False when the lock is not to be had. */
  private answered(reply: Grant | number, askedAtMs: number): boolean {
    if (this.phase === 'over') {
      this.giveBackLate(reply);
      return false;
    }
    if (typeof reply !== 'number') {
      this.grant(reply, askedAtMs + this.host.lockExpirationMs);
    } else if (this.handedEarly !== undefined) {
      this.grantHanded(this.handedEarly, askedAtMs);
    } else if (this.canWait) {
      this.phase = 'waiting';
      this.retryIn(reply);
    } else {
      this.refuse();
      return false;
    }
    return true;
  }

  /** Looks again: for messages that were lost, and holders that have died. */
  private retryIn(lockMs: number): void {
    const { clock } = this.host;
    // A lock without an end was put there by somebody else.
    const delayMs = lockMs < 0 ? LONGEST_RETRY_MS : Math.min(lockMs + 1, LONGEST_RETRY_MS);
    const timer = clock.startTimer(() => this.retry(), delayMs + Math.random() * RETRY_JITTER_MS);
    this.stopRetrying = () => timer.cancel();
  }

  private retry(): void {
    const { host, lock } = this;
    const askedAtMs = host.clock.nowMs();
    host.commands.acquire(
      lock,
      'again',
      (reply) => {
        if (this.phase !== 'waiting') this.giveBackLate(reply);
        else if (typeof reply === 'number') this.retryIn(reply);
        else this.grant(reply, askedAtMs + host.lockExpirationMs);
      },
      (error) => {
        if (this.phase !== 'waiting') return;
        void this.giveBack();
        this.refuse();
        this.granted?.reject(error);
      },
      (late) => this.isHanded(late),
    );
  }

  /** Everybody has left while the answer was on its way. */
  private giveBackLate(reply: Grant | number): void {
    if (typeof reply !== 'number' && !this.isHanded(reply)) void this.giveBack();
  }

  /**
   * The lock was handed over while the question was on its way, and the answer speaks of that one, or of the time before:
   * a turn may be using it, and who got it gives it up. Under another owner id it is one that was free by then, because the
   * one that was handed over has run out.
   */
  private isHanded(reply: Grant | number): boolean {
    return this.wasGranted && (typeof reply === 'number' || reply.owner === this.lock.owner);
  }

  private grantHanded(grant: Grant, sinceMs: number): void {
    this.grant(grant, sinceMs + this.host.commands.handedLeaseMs);
  }

  private grant(grant: Grant, untilMs: number): void {
    this.end();
    this.wasGranted = true;
    this.host.granted(grant, untilMs);
    this.granted?.resolve();
  }

  private refuse(): void {
    this.end();
    this.host.refused();
  }

  private end(): void {
    this.phase = 'over';
    this.stopRetrying?.();
  }

  private giveBack(): Promise<void> {
    return this.host.commands.leave(this.lock);
  }
}

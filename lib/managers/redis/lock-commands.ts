import type { Clock } from '../../internal/clock.js';
import { Deferred } from '../../internal/deferred.js';
import type { StateError } from '../../state.errors.js';
import type { StateWrites } from '../held-states.js';
import type { ExpirationLeft } from './expiration-watch.js';
import { OpenWork } from './open-work.js';
import { jointScript } from './joint-script.js';
import type { RedisArgument, RedisConnection } from './redis-connection.js';
import type { IdentKeys, RedisKeys } from './redis-keys.js';
import {
  ACQUIRE,
  COMMIT,
  FINISH,
  FINISH_LEASE,
  LEAVE,
  NOTICE,
  READ,
  RENEW,
  UNWATCH,
  WATCH,
} from './redis-scripts.js';

/** How a caller waits when the lock is not free: not at all, by asking for the first time, or again. */
export type Waiting = 'no' | 'first' | 'again';
/** What became of a commit; `wanted`: it is done, and another process waits for the lock, or has been given it. */
export type LockVerdict = 'done' | 'wanted' | 'lost';

/** Whose lock it is, or would be. */
export interface LockOwner {
  readonly keys: IdentKeys;
  readonly owner: string;
}

/** A lock that was got, and what was stored then. */
export interface Grant {
  /** Who has it now: no two grants are the same. */
  readonly owner: string;
  /** Somebody watches states of the ident. */
  readonly isWatched: boolean;
  /** Names and records of the states, in turn. */
  readonly fields: readonly Buffer[];
}

/** What somebody who watches has found. */
export interface Look {
  /** The last commit; empty where nothing is stored. */
  readonly commit: string;
  /** How many milliseconds the states live at least; below 0 where there are none. */
  readonly lifeMs: number;
  /** Names and records of the states, in turn; none when the commit was known. */
  readonly fields: readonly Buffer[];
}

/** What a commit brings to the server. */
export interface Commit {
  /** Names what is written, so that the server knows it again when it is sent twice. Empty when nothing is. */
  readonly id: string;
  readonly writes: StateWrites;
  /** How long the states live when the lock is given up, in milliseconds. */
  readonly windowMs: number;
}

/** What a turn over several idents brings to the server of one of them. */
export interface JointPart extends Omit<Commit, 'id'> {
  readonly lock: LockOwner;
  /** The lock is not given up. */
  readonly isKept: boolean;
}

/**
 * How long a lock lives at most that was handed over to who may be gone, until its new owner has renewed it, in
 * milliseconds: a node of a cluster does not know who listens to the others.
 */
const HANDED_LEASE_MS = 1_000;
/** How long it is remembered that somebody has noticed an expiry: a part of the window, at most so many milliseconds. */
const MARK_PER_MS = 0.9;
const LONGEST_MARK_MS = 60_000;
/** How long to rest before a lock that could not be given back is given back again, in milliseconds. */
const RETRY_MS = 250;

type OnVerdict = (verdict: LockVerdict) => void;
type OnError = (error: StateError) => void;

const VERDICTS: readonly LockVerdict[] = ['lost', 'done', 'done', 'wanted'];

export interface LockCommandsOptions {
  readonly clock: Clock;
  readonly expirationMs: number;
  readonly lockExpirationMs: number;
  /** How long locks are kept between turns; 0 for not at all. */
  readonly leaseHoldMs: number;
}

/**
 * What is asked of Redis about locks and states, each in one round trip.
 *
 * What every turn asks for takes functions, one of which is called in a later tick: a promise at each step costs more than
 * the rest of it. Everything else returns promises. Each fails with a {@link StateStoreUnavailableError}.
 */
export class LockCommands {
  private readonly lockMs: number;
  private readonly windowMs: number;
  /** While a lock lives so do its states; the window counts from the end of the lock, whatever ends it. */
  private readonly lockedStatesMs: number;
  /** Those who are leaving, and what ends their rest between two tries. */
  private readonly leaving = new Map<LockOwner, Deferred>();
  private readonly departures = new OpenWork();
  private words: string | undefined;
  private isStopping = false;

  constructor(
    private readonly connection: RedisConnection,
    private readonly keys: RedisKeys,
    private readonly options: LockCommandsOptions,
  ) {
    this.lockMs = wholeMs(options.lockExpirationMs);
    this.windowMs = wholeMs(options.expirationMs);
    this.lockedStatesMs = this.lockMs + this.windowMs;
  }

  /** How long a lock lives that was handed over, in milliseconds, until it is renewed. */
  get handedLeaseMs(): number {
    return this.connection.countsReceivers ? this.lockMs : Math.min(this.lockMs, HANDED_LEASE_MS);
  }

  /**
   * The lock and the states when it is the caller's now, else how many milliseconds it still lives.
   *
   * @param isKept Asked of an answer that comes after `onError` was called: whether what it speaks of is the caller's all
   * the same.
   */
  acquire(
    lock: LockOwner,
    waiting: Waiting,
    onReply: (reply: Grant | number) => void,
    onError: OnError,
    isKept?: (reply: Grant | number) => boolean,
  ): void {
    const { keys } = lock;
    const args = [
      keys.lock,
      keys.wait,
      keys.states,
      keys.watchers,
      lock.owner,
      this.lockMs,
      this.lockedStatesMs,
      waiting,
      this.keys.channelPrefix,
    ];
    // When nobody waits for the answer any more the lock, or the place on the list, is for somebody else.
    const onLate = (reply: unknown): void => {
      const resting = this.leaving.get(lock);
      if (resting !== undefined) resting.resolve();
      else if (isKept?.(grantOf(reply)) !== true) void this.leave(lock);
    };
    this.connection.call(ACQUIRE, args, (reply) => onReply(grantOf(reply)), onError, onLate);
  }

  /** Writes and keeps the lock. */
  commit({ keys, owner }: LockOwner, { id, writes }: Commit, onVerdict: OnVerdict, onError: OnError): void {
    const { deleteAll, steps, fields } = writes;
    const args = [
      keys.lock,
      keys.wait,
      keys.states,
      keys.watchers,
      owner,
      id,
      deleteAll ? 1 : 0,
      this.lockMs,
      this.lockedStatesMs,
      steps,
      this.keys.channelPrefix,
      ...fields,
    ];
    this.connection.call(COMMIT, args, (reply) => onVerdict(verdict(reply)), onError);
  }

  /** Writes and gives the lock up. */
  finish(
    { keys, owner }: LockOwner,
    { id, writes, windowMs }: Commit,
    onVerdict: OnVerdict,
    onError: OnError,
  ): void {
    const { deleteAll, steps, fields } = writes;
    const args = [
      keys.lock,
      keys.wait,
      keys.states,
      keys.watchers,
      owner,
      id,
      deleteAll ? 1 : 0,
      wholeMs(windowMs),
      this.handOverWords,
      steps,
      ...fields,
    ];
    const isLease = this.options.leaseHoldMs > 0;
    if (isLease) args.splice(FINISH.keys, 0, keys.read);
    this.connection.call(
      isLease ? FINISH_LEASE : FINISH,
      args,
      (reply) => onVerdict(verdict(reply)),
      onError,
    );
  }

  /** {@link finish}, for what not every turn asks for. */
  finished(lock: LockOwner, commit: Commit): Promise<LockVerdict> {
    return new Promise((resolve, reject) => this.finish(lock, commit, resolve, reject));
  }

  /** Whether {@link joint} can be asked for more than one ident. */
  get isJoint(): boolean {
    return this.connection.isOneServer;
  }

  /** Writes states of several idents, all or nothing. `undefined` when one of the locks is lost. */
  async joint(id: string, parts: readonly JointPart[]): Promise<readonly LockVerdict[] | undefined> {
    const keys = parts.flatMap(({ lock }) => lockKeys(lock));
    const args: RedisArgument[] = [id, this.lockMs, this.lockedStatesMs, ...this.handOver];
    for (const { lock, writes, windowMs, isKept } of parts) {
      const { deleteAll, steps, fields } = writes;
      args.push(lock.owner, deleteAll ? 1 : 0, isKept ? '' : wholeMs(windowMs));
      args.push(steps, fields.length / 2, ...fields);
    }
    const reply = await this.connection.run(jointScript(parts.length), [...keys, ...args]);
    return reply === 0 ? undefined : (reply as readonly number[]).map(verdict);
  }

  /** Prolongs the lock. False when it is lost. */
  async renew({ keys, owner }: LockOwner): Promise<boolean> {
    const args = [keys.lock, keys.states, owner, this.lockMs, this.lockedStatesMs];
    return (await this.connection.run(RENEW, args)) === 1;
  }

  /**
   * Gives back what `lock` may have, the lock or a place on the wait list. Never rejects: it is tried until the lock
   * must have run out by itself.
   */
  leave(lock: LockOwner): Promise<void> {
    return this.departures.add(this.leaveInTime(lock));
  }

  /** Settles when nobody is leaving any more. */
  whenAllLeft(): Promise<void> {
    return this.departures.whenDone();
  }

  /** Reads one state without the lock. */
  async read(keys: IdentKeys, name: string): Promise<Buffer | undefined> {
    const reply = await this.connection.run(READ, [keys.lock, keys.states, keys.read, name, this.windowMs]);
    return (reply as Buffer | null) ?? undefined;
  }

  /** What is stored, unless `known` is its last commit, and has `instance` told of commits for `watchMs` at least. */
  async watch(keys: IdentKeys, instance: string, known: string | undefined, watchMs: number): Promise<Look> {
    const args = [instance, watchMs, known ?? '?', this.keys.channelPrefix];
    const reply = await this.connection.run(WATCH, [keys.lock, keys.states, keys.watchers, ...args]);
    const [commit, lifeMs, ...fields] = reply as [Buffer, number, ...Buffer[]];
    return { commit: commit.toString('latin1'), lifeMs, fields };
  }

  /** Ends {@link watch}. */
  async unwatch(keys: IdentKeys, instance: string): Promise<void> {
    await this.connection.run(UNWATCH, [keys.watchers, instance]);
  }

  /**
   * Looks whether the states are gone: how many milliseconds they still live, or whether this caller was the first to
   * notice that they do not. By a function as turns are: a promise would let a commit that was answered later go first.
   */
  notice(keys: IdentKeys, onLeft: (left: ExpirationLeft) => void, onError: OnError): void {
    const markMs = wholeMs(Math.min(this.windowMs * MARK_PER_MS, LONGEST_MARK_MS));
    const onReply = (reply: unknown): void => {
      const left = reply as number;
      if (left === -1) onLeft(Infinity);
      else onLeft(left >= 0 ? left : left === -2 ? 'first' : 'noticed');
    };
    this.connection.call(NOTICE, [keys.states, keys.noticed, markMs], onReply, onError);
  }

  /** Whether the call that failed with `error` can have done nothing. */
  wasNeverSent(error: unknown): boolean {
    return this.connection.wasNeverSent(error);
  }

  /** From here on nothing is tried again. */
  stop(): void {
    this.isStopping = true;
  }

  private async leaveInTime(lock: LockOwner): Promise<void> {
    const { clock } = this.options;
    const endMs = clock.nowMs() + this.lockMs;
    let resting = new Deferred();
    this.leaving.set(lock, resting);
    while (!(await this.tryToLeave(lock)) && !this.isStopping && clock.nowMs() + RETRY_MS < endMs) {
      const timer = clock.startTimer(resting.resolve, RETRY_MS);
      await resting.promise;
      timer.cancel();
      resting = new Deferred();
      this.leaving.set(lock, resting);
    }
    this.leaving.delete(lock);
  }

  private async tryToLeave(lock: LockOwner): Promise<boolean> {
    try {
      await this.connection.run(LEAVE, [...lockKeys(lock), lock.owner, ...this.handOver]);
      return true;
    } catch {
      return false;
    }
  }

  private get handOver(): RedisArgument[] {
    const { keys, connection, handedLeaseMs, windowMs } = this;
    return [keys.channelPrefix, handedLeaseMs, handedLeaseMs + windowMs, connection.countsReceivers ? 1 : 0];
  }

  /** The same for one argument; the prefix, which may be anything, last. Known once the connection is open. */
  private get handOverWords(): string {
    if (this.words === undefined) {
      const [prefix, ...rest] = this.handOver;
      this.words = [...rest, prefix].join(' ');
    }
    return this.words;
  }
}

function lockKeys({ keys }: LockOwner): [string, string, string, string] {
  return [keys.lock, keys.wait, keys.states, keys.watchers];
}

function grantOf(reply: unknown): Grant | number {
  if (typeof reply === 'number') return reply;
  const fields = reply as Buffer[];
  const owner = fields.pop() as Buffer;
  const isWatched = (fields.pop() as unknown) === 1;
  return { owner: owner.toString('latin1'), isWatched, fields };
}

/** Redis counts whole milliseconds. None at all deletes at once: that is for what is over. */
function wholeMs(durationMs: number): number {
  return durationMs <= 0 ? 0 : Math.max(1, Math.round(durationMs));
}

function verdict(reply: unknown): LockVerdict {
  return VERDICTS[reply as number] ?? 'lost';
}

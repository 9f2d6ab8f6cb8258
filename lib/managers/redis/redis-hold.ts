import type { Clock } from '../../internal/clock.js';
import type { DeadlineNode } from '../../internal/deadline-queue.js';
import { Deferred } from '../../internal/deferred.js';
import type { StateCodec } from '../../internal/state-codec.js';
import type { StateDefinition } from '../../internal/state-definition.js';
import type { Snapshot } from '../../internal/state-draft.js';
import { LockExpiredError, type StateError } from '../../state.errors.js';
import type { ManagedTurn, TurnChanges } from '../managed-turn.js';
import { HeldStates, type StatesMade, type StateWrites } from './held-states.js';
import type { IdentKeys } from './redis-keys.js';
import type { Commit, Grant, LockCommands, LockOwner, LockVerdict } from './lock-commands.js';
import { LockRequest, type LockRequestHost } from './lock-request.js';

/** The lock is `requested`; `held`; `ended`: it was given up, lost, or never had. */
export type HoldPhase = 'requested' | 'held' | 'ended';

/** While others wait, one process goes on for this long, in milliseconds, before it hands the lock over … */
const SLICE_MS = 3;
/** … or for this many turns. */
const SLICE_TURNS = 256;
/** How long to rest before what was acknowledged is stored again, in milliseconds. */
const RETRY_MS = 20;

/** What a hold needs of its manager. What it is told of losses throws nothing: the next one has to hear of his too. */
export interface HoldHost {
  readonly clock: Clock;
  readonly codec: StateCodec;
  readonly commands: LockCommands;
  readonly lockExpirationMs: number;
  readonly expirationMs: number;
  /** How long the lock is kept between turns; 0 for not at all. */
  readonly leaseHoldMs: number;
  /** Whether a caller of this process has the turn of the ident, or is about to have it. */
  isClaimed(ident: string): boolean;
  /** The lock was got: it has to be renewed from now on. */
  held(hold: RedisHold): void;
  /** The next caller starts with a new hold. */
  ended(hold: RedisHold): void;
  /**
   * The lock was given up, and with it the window of the states starts: what is left of it, in milliseconds. `isHanded`:
   * another process has it now.
   */
  released(hold: RedisHold, windowMs: number, isHanded: boolean): void;
  /** A commit that covers the turn has been answered, or needs no answer. */
  committed(hold: RedisHold, made: StatesMade): void;
  /** The lock went, or the store fell silent, while the code of `turn` was running. */
  turnLost(turn: ManagedTurn, error: StateError): void;
  /** The same for turns that had ended well and have not been stored. */
  commitLost(hold: RedisHold, turn: ManagedTurn | undefined, error: StateError): void;
  /** Turns that were answered under `leaseHold` are not stored and will not be. */
  acknowledgedLost(hold: RedisHold, count: number, begun: BegunStates): void;
  /** Whether it wants to know what such turns began from. */
  readonly tellsOfLost: boolean;
  /** The call must have its end before the store is closed. */
  underWay(work: Promise<unknown>): void;
}

/** What turns began from: of each state what was there before the first of them. */
export type BegunStates = ReadonlyMap<StateDefinition, Snapshot>;

const NOTHING_BEGUN: BegunStates = new Map();

/** A turn that has ended and waits for a commit that covers it. */
interface Uncovered {
  /** `undefined` for a caller that only wants to know that everything is stored. */
  readonly turn: ManagedTurn | undefined;
  readonly made: StatesMade;
  readonly stored: Deferred;
}

/** What one commit stores. */
interface Batch extends Commit {
  readonly turns: readonly Uncovered[];
  /** How many turns of it were answered before. */
  readonly acknowledged: number;
  /** What these began from. */
  readonly begun: BegunStates;
}

/**
 * The time in which this process has, or tries to get, the lock of one ident.
 *
 * While it lasts turns follow each other without asking the server: each starts from what the one before has made, and
 * one commit covers all that have ended when it is sent. At most one commit is under way; nobody is answered before the
 * commit that covers his turn, and when that fails all it covers fail together. When others wait, a slice of a few
 * milliseconds is all a process takes before it hands the lock over.
 *
 * Guarantee: the server writes only for the owner of the lock, and this owner id is used once; however the hold ends,
 * the lock is given up or known to be lost.
 */
export class RedisHold implements DeadlineNode, LockOwner, LockRequestHost {
  // Where it stands in the queue of the renewals.
  previous: DeadlineNode | undefined = undefined;
  next: DeadlineNode | undefined = undefined;
  deadlineMs = 0;

  phase: HoldPhase = 'requested';
  /** Who the server takes this for: {@link id}, until the lock is got under a longer one. */
  owner: string;
  /** How the lock is come by. */
  request!: LockRequest;
  /** When this process believes the lock to be its own no longer. */
  leaseUntilMs = 0;

  private states!: HeldStates;
  /** What readers of this process may see while turns are acknowledged before they are stored. */
  private acknowledgedStates: HeldStates | undefined;
  private gone: Deferred | undefined;
  private user: ManagedTurn | undefined;
  /** When a turn ended, or somebody of this process read: the window of the states counts from then. */
  private usedAtMs = 0;
  private uncovered: Uncovered[] = [];
  private isCommitting = false;
  private isSettling = false;
  /** Turns have queued for it here. */
  private isShared = false;
  private isRenewing = false;
  private isEnding = false;
  private contendedSinceMs: number | undefined;
  private turns = 0;
  private acknowledged = 0;
  /** What the acknowledged turns began from, where somebody wants to know if they are lost. */
  private begun: BegunStates = NOTHING_BEGUN;
  private commits = 0;
  private releasing: Promise<void> | undefined;

  constructor(
    private readonly host: HoldHost,
    readonly ident: string,
    readonly keys: IdentKeys,
    /** The owner id that asks for the lock. */
    readonly id: string,
  ) {
    this.owner = id;
  }

  /** Asks for the lock; without `canWait` the hold has ended when the lock is not free. */
  ask(canWait: boolean): void {
    this.request = new LockRequest(this, this, canWait);
  }

  get clock(): Clock {
    return this.host.clock;
  }

  get commands(): LockCommands {
    return this.host.commands;
  }

  get lockExpirationMs(): number {
    return this.host.lockExpirationMs;
  }

  /** Settles when the next hold can be opened. */
  whenGone(): Promise<void> {
    return (this.gone ??= new Deferred()).promise;
  }

  /** Settles when a lock that is being given up has been. `undefined` when it is not being given up. Never rejects. */
  whenReleased(): Promise<void> | undefined {
    return this.releasing;
  }

  /** The states as turns see them; for the phase `held`. */
  get held(): HeldStates {
    return this.states;
  }

  /** The states as a reader sees them, where this process knows better than the server. */
  read(): HeldStates | undefined {
    if (this.phase !== 'held' || this.host.leaseHoldMs === 0 || this.endIfExpired()) return undefined;
    this.usedAtMs = this.host.clock.nowMs();
    return this.acknowledged === 0 ? undefined : (this.acknowledgedStates ?? this.states);
  }

  /** Lets `turn` use the lock, if it may be used. */
  tryEnter(turn: ManagedTurn): boolean {
    if (this.phase !== 'held' || this.endIfExpired()) return false;
    if (this.mustYield) {
      this.goOn();
      return false;
    }
    this.user = turn;
    this.turns += 1;
    turn.held = this;
    return true;
  }

  /** Takes over what `turn`, which has the lock, has changed. `undefined`: acknowledged at once, under `leaseHold`. */
  accept(turn: ManagedTurn, changes: TurnChanges): Promise<void> | undefined {
    const { host } = this;
    const isAcknowledged =
      host.leaseHoldMs > 0 &&
      !this.isEnding &&
      this.contendedSinceMs === undefined &&
      !this.isCommitting &&
      this.uncovered.length === 0;
    if (!isAcknowledged && this.acknowledged > 0) this.acknowledgedStates ??= this.states.freeze();
    const made = this.states.apply(changes);
    if (isAcknowledged) {
      if (this.states.isDirty) {
        this.acknowledged += 1;
        if (host.tellsOfLost) this.rememberBegun(changes);
      }
      host.committed(this, made);
      return undefined;
    }
    return this.cover(turn, made);
  }

  /** The lock has come. */
  granted({ owner, fields }: Grant, untilMs: number): void {
    this.phase = 'held';
    this.owner = owner;
    this.states = HeldStates.load(fields, this.host.codec);
    this.leaseUntilMs = untilMs;
    this.host.held(this);
    // Its caller may have left in the tick in which the lock came.
    if (!this.host.isClaimed(this.ident)) this.goOn();
  }

  /** The lock is not to be had. */
  refused(): void {
    this.end();
  }

  /** The turn that used the lock has ended, or a caller that waited for it has left. */
  release(turn: ManagedTurn): void {
    if (this.user === turn) {
      this.user = undefined;
      this.usedAtMs = this.host.clock.nowMs();
    }
    if (this.phase === 'held') this.goOn();
    else if (this.phase === 'requested' && !this.host.isClaimed(this.ident)) this.leave();
  }

  /**
   * While the lock is kept between turns nothing expires on the server, and a timer that is late must not bring back
   * what should be gone.
   */
  private endIfExpired(): boolean {
    const { clock, expirationMs, leaseHoldMs } = this.host;
    if (leaseHoldMs === 0 || this.turns === 0 || this.user !== undefined || this.isCommitting) return false;
    if (clock.nowMs() - this.usedAtMs < expirationMs) return false;
    this.endLease();
    return true;
  }

  /** Somebody in another process waits for the lock. */
  wanted(): void {
    if (this.phase !== 'held') return;
    this.contendedSinceMs ??= this.host.clock.nowMs();
    this.goOn();
  }

  /** The time of `leaseHold` is up, or the application shuts down: stores everything, and keeps nothing any longer. */
  endLease(): void {
    if (this.phase !== 'held') return;
    this.isEnding = true;
    this.goOn();
  }

  /** Settles when everything that was acknowledged is stored. */
  flush(): Promise<void> | undefined {
    if (this.phase !== 'held' || this.acknowledged === 0) return undefined;
    const stored = this.cover(undefined, NOTHING_MADE);
    this.goOn();
    return stored;
  }

  /** Prolongs the lock, if it is time. */
  async renew(): Promise<void> {
    const { host } = this;
    const nowMs = host.clock.nowMs();
    if (this.phase !== 'held') return;
    if (nowMs >= this.leaseUntilMs) {
      this.lose();
      return;
    }
    if (this.isRenewing || this.isCommitting) return;
    if (this.leaseUntilMs - nowMs > (host.lockExpirationMs * 2) / 3) return;
    this.isRenewing = true;
    try {
      const isHeld = await host.commands.renew(this);
      if (!isHeld) this.lose();
      else if (this.isLive) this.leaseUntilMs = nowMs + host.lockExpirationMs;
    } catch {
      // The server is silent. It is tried again until the lease must have run out.
    } finally {
      this.isRenewing = false;
    }
  }

  private get isLive(): boolean {
    return this.phase === 'held';
  }

  /** Whether no further turn may begin. */
  private get mustYield(): boolean {
    // Whoever has got the lock uses it once, however late he comes to it: or nobody might ever.
    if (this.turns === 0) return false;
    if (this.isEnding) return true;
    if (this.contendedSinceMs === undefined) return false;
    return this.turns >= SLICE_TURNS || this.host.clock.nowMs() - this.contendedSinceMs >= SLICE_MS;
  }

  private rememberBegun({ changed }: TurnChanges): void {
    const first = changed.filter(({ draft }) => !this.begun.has(draft.definition));
    if (first.length > 0)
      this.begun = new Map([
        ...this.begun,
        ...first.map(({ draft }) => [draft.definition, draft.base] as const),
      ]);
  }

  private cover(turn: ManagedTurn | undefined, made: StatesMade): Promise<void> {
    const stored = new Deferred();
    this.uncovered.push({ turn, made, stored });
    return stored.promise;
  }

  /** Sees to a lock that is held, now that something has changed: it is used, kept, committed or given up. */
  private goOn(): void {
    if (!this.isLive || this.isCommitting) return;
    if (this.uncovered.length > 1) this.isShared = true;
    if (this.isWanted) {
      if (this.hasNews) this.settleSoon();
    } else if (this.isShared && !this.mustYield) {
      // Whoever queued here may well come back with his answer: then the lock need not go and come back with him.
      this.settleSoon();
    } else {
      this.finish();
    }
  }

  /** The same at the end of the tick: those who are next in the queue and need no time come into the same commit. */
  private settleSoon(): void {
    if (this.isSettling) return;
    this.isSettling = true;
    this.host.clock.startImmediate(() => {
      this.isSettling = false;
      if (!this.isLive || this.isCommitting) return;
      if (this.isWanted ? this.hasNews : this.uncovered.length > 1 && !this.mustYield)
        this.host.underWay(this.commit());
      else if (!this.isWanted) this.finish();
    });
  }

  /** Whether the lock stays: a turn uses it, or the next one is about to, or it is kept between turns. */
  private get isWanted(): boolean {
    if (this.user !== undefined || (this.host.isClaimed(this.ident) && !this.mustYield)) return true;
    return this.host.leaseHoldMs > 0 && !this.isEnding && this.contendedSinceMs === undefined;
  }

  /** Whether somebody waits for a commit, or what was acknowledged has to be stored by now. */
  private get hasNews(): boolean {
    return this.uncovered.length > 0 || (this.isEnding && this.states.isDirty);
  }

  private async commit(): Promise<void> {
    const { host } = this;
    const batch = this.takeBatch(host.expirationMs);
    if (batch === undefined) return;
    const sentAtMs = host.clock.nowMs();
    this.isCommitting = true;
    let verdict: LockVerdict;
    try {
      verdict = await host.commands.commit(this, batch);
    } catch (error) {
      this.isCommitting = false;
      this.silence(error as StateError, batch);
      return;
    }
    this.isCommitting = false;
    if (verdict === 'lost') {
      this.lose(batch);
      return;
    }
    this.leaseUntilMs = sentAtMs + host.lockExpirationMs;
    if (verdict === 'wanted') this.contendedSinceMs ??= host.clock.nowMs();
    this.succeed(batch.turns);
    // Whoever shuts down waits for this commit, and has to find the next step under way.
    if (this.isEnding) this.goOn();
    else host.clock.startImmediate(() => this.goOn());
  }

  private finish(): void {
    const { clock, expirationMs, leaseHoldMs } = this.host;
    const idleMs = leaseHoldMs === 0 || this.turns === 0 ? 0 : clock.nowMs() - this.usedAtMs;
    const batch = this.takeBatch(Math.max(0, expirationMs - idleMs));
    if (batch === undefined) return;
    this.end();
    this.releasing = this.sendFinish(batch);
    this.host.underWay(this.releasing);
  }

  private async sendFinish(batch: Batch): Promise<void> {
    try {
      const verdict = await this.host.commands.finish(this, batch);
      if (verdict === 'lost') {
        this.lose(batch);
      } else {
        this.succeed(batch.turns);
        this.host.released(this, batch.windowMs, verdict === 'wanted');
      }
    } catch (error) {
      this.silence(error as StateError, batch);
    }
  }

  /** What the next commit brings; `undefined` when it cannot be written, and the hold has ended with that. */
  private takeBatch(windowMs: number): Batch | undefined {
    const { states, uncovered: turns, acknowledged, begun } = this;
    let writes: StateWrites;
    try {
      writes = states.takeWrites();
    } catch (error) {
      this.break(error as StateError, []);
      if (acknowledged > 0) this.host.acknowledgedLost(this, acknowledged, begun);
      void this.host.commands.leave(this);
      return undefined;
    }
    this.uncovered = [];
    this.acknowledged = 0;
    this.begun = NOTHING_BEGUN;
    this.acknowledgedStates = undefined;
    const id = writes.fields.length === 0 ? '' : `${this.owner}#${(this.commits += 1)}`;
    return { id, writes, windowMs, turns, acknowledged, begun };
  }

  private succeed(turns: readonly Uncovered[]): void {
    for (const { made, stored } of turns) {
      this.host.committed(this, made);
      stored.resolve();
    }
  }

  private fail(turns: readonly Uncovered[], errorOf: (turn: ManagedTurn | undefined) => StateError): void {
    for (const { turn, stored } of turns) {
      const error = errorOf(turn);
      stored.reject(error);
      this.host.commitLost(this, turn, error);
    }
  }

  /** The lock is somebody else's by now, or nobody's: everything that is not stored is lost. */
  private lose(batch?: Batch): void {
    const { user } = this;
    const lost = [...(batch?.turns ?? []), ...this.uncovered.splice(0)];
    const acknowledged = (batch?.acknowledged ?? 0) + this.acknowledged;
    this.acknowledged = 0;
    const begun = new Map([...this.begun, ...(batch?.begun ?? NOTHING_BEGUN)]);
    this.end();
    this.fail(lost, lockLost);
    if (user !== undefined) this.host.turnLost(user, lockLost(user));
    if (acknowledged > 0) this.host.acknowledgedLost(this, acknowledged, begun);
  }

  /** The store is silent: nobody can go on from what it may or may not have. */
  private silence(error: StateError, batch: Batch): void {
    this.break(error, batch.turns);
    if (batch.acknowledged === 0) void this.host.commands.leave(this);
    else this.host.underWay(this.store(batch));
  }

  private break(error: StateError, turns: readonly Uncovered[]): void {
    const { user } = this;
    this.end();
    this.fail([...turns, ...this.uncovered.splice(0)], () => error);
    if (user !== undefined) this.host.turnLost(user, error);
  }

  /** Stores what has been acknowledged for as long as the lock can still be this process's own. */
  private async store(batch: Batch): Promise<void> {
    const { clock, commands } = this.host;
    while (clock.nowMs() < this.leaseUntilMs) {
      try {
        if ((await commands.finish(this, batch)) !== 'lost') return;
        break;
      } catch {
        await new Promise<void>((resolve) => clock.startTimer(resolve, RETRY_MS));
      }
    }
    this.host.acknowledgedLost(this, batch.acknowledged, batch.begun);
  }

  /** Nobody of this process waits any longer. */
  private leave(): void {
    this.end();
    void this.request.withdraw();
  }

  private end(): void {
    if (this.phase === 'ended') return;
    this.phase = 'ended';
    this.user = undefined;
    this.host.ended(this);
    this.gone?.resolve();
  }
}

const NOTHING_MADE: StatesMade = { created: [], deleted: [], changed: [], gone: undefined };

function lockLost(turn: ManagedTurn | undefined): LockExpiredError {
  return new LockExpiredError(
    `Lock for ${turn?.description ?? 'a state'} was lost in Redis: it was not renewed within \`lockExpiration\`, or its key ` +
      'is gone. Raise `lockExpiration` if the process can stand still for so long, and see that Redis evicts nothing.',
  );
}

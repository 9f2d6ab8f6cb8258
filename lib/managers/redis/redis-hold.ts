import type { Clock } from '../../internal/clock.js';
import type { DeadlineNode } from '../../internal/deadline-queue.js';
import { Deferred } from '../../internal/deferred.js';
import { LockExpiredError, type StateError } from '../../state.errors.js';
import type { ManagedTurn, TurnChanges } from '../managed-turn.js';
import { HeldStates, type StatesMade, type StateWrites } from '../held-states.js';
import type { BegunStates, HoldHost } from './hold-host.js';
import type { IdentKeys } from './redis-keys.js';
import type { Commit, Grant, JointPart, LockCommands, LockOwner, LockVerdict } from './lock-commands.js';
import { LockRequest, type LockRequestHost } from './lock-request.js';

/** The lock is `requested`; `held`; `ended`: it was given up, lost, or never had. */
export type HoldPhase = 'requested' | 'held' | 'ended';

/** While others wait, one process goes on for this long, in milliseconds, before it hands the lock over … */
const SLICE_MS = 3;
/** … or for this many turns. */
const SLICE_TURNS = 256;
/** How long to rest before what was acknowledged is stored again, in milliseconds. */
const RETRY_MS = 20;

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

/** What a turn over several idents is about to store of one of them. */
export interface JointDraft extends JointPart {
  readonly lock: RedisHold;
  readonly turn: ManagedTurn;
  readonly made: StatesMade;
  /** What the states are when it is stored. */
  readonly next: HeldStates;
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
  /** A turn over several idents is being stored: nobody enters before that has its end. */
  private reserved: Deferred | undefined;
  /** Turns have queued for it here. */
  private isShared = false;
  private isRenewing = false;
  /** It was handed over, and how long ago is not known: too little to acknowledge anything that is not stored. */
  private isBrief = false;
  /** Somebody watches: turns say what they do, and are stored at once. */
  private isWatched = false;
  private isEnding = false;
  private contendedSinceMs: number | undefined;
  private turns = 0;
  private acknowledged = 0;
  /** What the acknowledged turns began from, where somebody wants to know if they are lost. */
  private begun: BegunStates = NOTHING_BEGUN;
  private commits = 0;
  private isReleasing = false;
  private released: Deferred | undefined;

  constructor(
    private readonly host: HoldHost,
    readonly ident: string,
    readonly keys: IdentKeys,
    /** The owner id that asks for the lock, … */
    readonly id: string,
    /** … and the number in it. */
    readonly number: number,
    /** Its caller came in the tick in which the turn before was answered: he may well do so again. */
    private readonly comesBack: boolean,
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

  /** Settles when it can be entered again, or the next hold be opened. */
  whenGone(): Promise<void> {
    return this.reserved?.promise ?? (this.gone ??= new Deferred()).promise;
  }

  /** Settles when a lock that is being given up has been. `undefined` when it is not being given up. Never rejects. */
  whenReleased(): Promise<void> | undefined {
    return this.isReleasing ? (this.released ??= new Deferred()).promise : undefined;
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
    if (this.phase !== 'held' || this.reserved !== undefined || this.endIfExpired()) return false;
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
    const isWatched = this.tellsWatchers;
    const isAcknowledged =
      host.leaseHoldMs > 0 &&
      !isWatched &&
      !this.isBrief &&
      !this.isEnding &&
      this.contendedSinceMs === undefined &&
      !this.isCommitting &&
      this.uncovered.length === 0 &&
      // Where the process stood still the timer that sees that the lock is lost may be late.
      host.clock.nowMs() < this.leaseUntilMs;
    if (!isAcknowledged && this.acknowledged > 0) this.acknowledgedStates ??= this.states.freeze();
    const made = this.states.apply(changes, isWatched);
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
  granted({ owner, isWatched, fields }: Grant, untilMs: number): void {
    this.phase = 'held';
    this.isWatched ||= isWatched;
    this.owner = owner;
    this.states = HeldStates.load(fields, this.host.codec);
    this.leaseUntilMs = untilMs;
    this.isBrief = owner !== this.id;
    this.host.held(this);
    // Its caller may have left in the tick in which the lock came.
    if (!this.host.isClaimed(this.ident)) this.goOn();
  }

  /** The lock is not to be had. */
  refused(): void {
    this.end();
    this.host.unsettled(this);
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
    if (leaseHoldMs === 0 || this.turns === 0 || this.user !== undefined) return false;
    if (this.isCommitting || this.reserved !== undefined) return false;
    if (clock.nowMs() - this.usedAtMs < expirationMs) return false;
    this.endLease();
    return true;
  }

  /** Somebody has begun to watch states of the ident. */
  watched(): void {
    this.isWatched = true;
    // If that fails those hear of it whom it concerns.
    this.flush()?.catch(() => undefined);
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

  /** The application shuts down, and nobody waits any longer for a lock that may still be on its way. */
  giveUp(): void {
    if (this.phase === 'requested') this.leave();
    else this.endLease();
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
      else if (this.isLive) this.prolonged(nowMs);
    } catch {
      // The server is silent. It is tried again until the lease must have run out.
    } finally {
      this.isRenewing = false;
    }
  }

  /** From now on no turn enters until {@link reopen}: the one that has the lock ends, and is stored with others. */
  reserve(): void {
    this.reserved = new Deferred();
  }

  reopen(): void {
    if (this.reserved === undefined) return;
    this.reserved.resolve();
    this.reserved = undefined;
    this.goOn();
  }

  /** Whether something that other turns have made is not stored. */
  get isUnsettled(): boolean {
    return this.isLive && (this.isCommitting || this.uncovered.length > 0 || this.states.isDirty);
  }

  /** Stores what other turns have made. Rejects when it cannot: then `turn`, which went on from it, has failed too. */
  async settle(turn: ManagedTurn): Promise<void> {
    while (this.isUnsettled) {
      const stored = this.cover(turn, NOTHING_MADE);
      this.goOn();
      await stored;
    }
  }

  /** Prolongs the lock now. @throws {LockExpiredError} when it is lost: that of `turn`. */
  async verify(turn: ManagedTurn): Promise<void> {
    if (!this.isLive) throw this.lostBy(turn);
    const sentAtMs = this.host.clock.nowMs();
    if (await this.host.commands.renew(this)) {
      this.prolonged(sentAtMs);
      return;
    }
    const error = this.lostBy(turn);
    this.lose();
    throw error;
  }

  /** What is to be stored of `turn`, on top of what is {@link settle settled}. @throws what keeps it from being stored. */
  draw(turn: ManagedTurn, changes: TurnChanges): JointDraft {
    if (!this.isLive) throw this.lostBy(turn);
    const next = this.states.freeze();
    const source = changes.from?.held as RedisHold | undefined;
    const made = next.apply(changes, this.tellsWatchers, source?.held);
    const { isWanted: isKept, windowMs } = this;
    return { lock: this, turn, made, next, writes: next.takeWrites(), isKept, windowMs };
  }

  /** A commit of this hold, as no other one is called. */
  nextCommitId(): string {
    return `${this.owner}#${(this.commits += 1)}`;
  }

  /** What was drawn is stored. */
  storedJointly(
    { next, isKept, windowMs }: JointDraft,
    sentAtMs: number,
    verdict: LockVerdict | undefined,
  ): void {
    this.states = next;
    if (!isKept) {
      this.host.released(this, windowMs, verdict === 'wanted');
    } else if (this.isLive) {
      this.prolonged(sentAtMs);
      if (verdict === 'wanted') this.contendedSinceMs ??= this.host.clock.nowMs();
      this.reopen();
    }
  }

  /** What was drawn is not stored, because one of the locks is lost. @throws {LockExpiredError} when it was this one. */
  async lostJointly({ turn, isKept, windowMs }: JointDraft): Promise<void> {
    const { commands } = this.host;
    if (isKept) return this.verify(turn);
    let verdict: LockVerdict;
    try {
      verdict = await commands.finished(this, { id: '', writes: NOTHING_WRITTEN, windowMs });
    } catch {
      void commands.leave(this);
      return undefined;
    }
    if (verdict === 'lost') throw this.lostBy(turn);
    this.host.released(this, windowMs, verdict === 'wanted');
    return undefined;
  }

  /** Whether what was drawn is stored is not known. */
  failJointly(error: StateError): void {
    this.break(error, []);
    void this.host.commands.leave(this);
  }

  /** `turn`, which has ended, is not stored because this lock is lost: says so. */
  lostBy(turn: ManagedTurn): LockExpiredError {
    const error = lockLost(turn);
    this.host.commitLost(this, turn, error);
    return error;
  }

  /** Whether turns have to say what they do. */
  private get tellsWatchers(): boolean {
    return this.isWatched || this.host.isWatched(this.ident);
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

  /** The server has prolonged the lock, at that time or later. */
  private prolonged(sentAtMs: number): void {
    this.leaseUntilMs = sentAtMs + this.host.lockExpirationMs;
    this.isBrief = false;
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
    if (this.reserved !== undefined) {
      if (this.uncovered.length > 0) this.commit();
      return;
    }
    if (this.uncovered.length > 1) this.isShared = true;
    if (this.isWanted) {
      if (this.hasNews) this.settleSoon();
    } else if (this.isShared && !this.mustYield) {
      // Whoever queued here may well come back with his answer: then the lock need not go and come back with him.
      this.settleSoon();
    } else if (this.comesBack && this.uncovered.length > 0 && !this.mustYield) {
      // The lock is given up at the end of the tick in which he has his answer, unless he has come back by then.
      this.commit();
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
      if (!this.isLive || this.isCommitting || this.reserved !== undefined) return;
      if (this.isWanted ? this.hasNews : this.uncovered.length > 1 && !this.mustYield) this.commit();
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

  private commit(): void {
    const { host } = this;
    const batch = this.takeBatch(host.expirationMs);
    if (batch === undefined) return;
    const sentAtMs = host.clock.nowMs();
    this.isCommitting = true;
    host.underWay.begin();
    host.commands.commit(
      this,
      batch,
      (verdict) => {
        this.isCommitting = false;
        this.committed(batch, verdict, sentAtMs);
        host.underWay.end();
      },
      (error) => {
        this.isCommitting = false;
        this.silence(error, batch);
        host.underWay.end();
      },
    );
  }

  private committed(batch: Batch, verdict: LockVerdict, sentAtMs: number): void {
    const { host } = this;
    if (verdict === 'lost') {
      this.lose(batch);
      return;
    }
    this.prolonged(sentAtMs);
    if (verdict === 'wanted') this.contendedSinceMs ??= host.clock.nowMs();
    this.succeed(batch.turns);
    // Whoever shuts down waits for this commit, and has to find the next step under way.
    if (this.isEnding) this.goOn();
    else host.clock.startImmediate(() => this.goOn());
  }

  private finish(): void {
    const batch = this.takeBatch(this.windowMs);
    if (batch === undefined) return;
    this.end();
    this.isReleasing = true;
    const { host } = this;
    host.underWay.begin();
    host.commands.finish(
      this,
      batch,
      (verdict) => {
        if (verdict === 'lost') {
          this.lose(batch);
        } else {
          if (verdict === 'done' && batch.turns.length > 0) host.answered(this);
          this.succeed(batch.turns);
          host.released(this, batch.windowMs, verdict === 'wanted');
        }
        this.finished();
      },
      (error) => {
        this.silence(error, batch);
        this.finished();
      },
    );
  }

  private finished(): void {
    this.isReleasing = false;
    this.released?.resolve();
    this.host.underWay.end();
  }

  /** How long the states live when the lock is given up now. */
  private get windowMs(): number {
    const { clock, expirationMs, leaseHoldMs } = this.host;
    const idleMs = leaseHoldMs === 0 || this.turns === 0 ? 0 : clock.nowMs() - this.usedAtMs;
    return Math.max(0, expirationMs - idleMs);
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
    const id = writes.fields.length === 0 ? '' : this.nextCommitId();
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
    this.host.unsettled(this);
    this.fail(lost, lockLost);
    if (user !== undefined) this.host.turnLost(user, lockLost(user));
    if (acknowledged > 0) this.host.acknowledgedLost(this, acknowledged, begun);
  }

  /** The store is silent: nobody can go on from what it may or may not have. */
  private silence(error: StateError, batch: Batch): void {
    this.break(error, batch.turns);
    if (batch.acknowledged === 0) void this.host.commands.leave(this);
    else void this.host.underWay.add(this.store(batch));
  }

  private break(error: StateError, turns: readonly Uncovered[]): void {
    const { user } = this;
    this.end();
    this.host.unsettled(this);
    this.fail([...turns, ...this.uncovered.splice(0)], () => error);
    if (user !== undefined) this.host.turnLost(user, error);
  }

  /** Stores what has been acknowledged for as long as the lock can still be this process's own. */
  private async store(batch: Batch): Promise<void> {
    const { clock, commands } = this.host;
    while (clock.nowMs() < this.leaseUntilMs) {
      try {
        if ((await commands.finished(this, batch)) !== 'lost') return;
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
    this.host.unsettled(this);
    void this.request.withdraw();
  }

  /** Nobody gets the lock from this hold any more. */
  end(): void {
    if (this.phase === 'ended') return;
    this.phase = 'ended';
    this.user = undefined;
    this.host.ended(this);
    this.reserved?.resolve();
    this.reserved = undefined;
    this.gone?.resolve();
  }
}

const NOTHING_MADE: StatesMade = {
  created: [],
  deleted: [],
  changed: [],
  gone: undefined,
  movedTo: undefined,
  moved: [],
};
const NOTHING_WRITTEN: StateWrites = { deleteAll: false, steps: '', fields: [] };

function lockLost(turn: ManagedTurn | undefined): LockExpiredError {
  return new LockExpiredError(
    `Lock for ${turn?.description ?? 'a state'} was lost in Redis: it was not renewed within \`lockExpiration\`, or its key ` +
      'is gone. Raise `lockExpiration` if the process can stand still for so long, and see that Redis evicts nothing.',
  );
}

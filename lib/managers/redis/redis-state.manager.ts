import { randomBytes } from 'node:crypto';
import type { Immutable } from 'immer';
import { SystemClock, type Clock } from '../../internal/clock.js';
import { DeadlineQueue, type DeadlineNode } from '../../internal/deadline-queue.js';
import { DeadlineWorker } from '../../internal/deadline-worker.js';
import { hashIdent } from '../../internal/ident.js';
import { StateCodec, type StateRecord } from '../../internal/state-codec.js';
import type { StateDefinition } from '../../internal/state-definition.js';
import { freshSnapshot, readable, type Snapshot } from '../../internal/state-draft.js';
import { LockExpiredError, StateManagerClosedError, type StateError } from '../../state.errors.js';
import type { ResolvedStateOptions } from '../../state.options.js';
import type { StateToken } from '../../state.token.js';
import { lockTimeout } from '../lock-errors.js';
import { LockingStateManager, type LockWait } from '../locking-state.manager.js';
import type { ManagedTurn, PreparedTurn, TurnChanges } from '../managed-turn.js';
import type { StateCensus } from '../state-census.js';
import type { StateStats } from '../state.manager.js';
import { UnreadableRecords } from '../unreadable-records.js';
import type { WatchedState } from '../watch/watched-state.js';
import { ExpirationWatch, type KeptRecords } from './expiration-watch.js';
import type { HeldStates, StatesMade } from '../held-states.js';
import { HoldTable } from './hold-table.js';
import { JointCommit } from './joint-commit.js';
import { LockCommands } from './lock-commands.js';
import { OpenWork } from './open-work.js';
import { takeRedisCensus } from './redis-census.js';
import { RedisConnection } from './redis-connection.js';
import type { BegunStates, HoldHost } from './hold-host.js';
import { RedisHold } from './redis-hold.js';
import { LEASING, RedisKeys } from './redis-keys.js';
import { RedisWatches } from './redis-watches.js';
import { parseWake } from './wake-message.js';

/** Bytes of randomness in the name of a process: its owner ids cannot be guessed. */
const INSTANCE_BYTES = 16;
/** The longest time between two looks at the locks of this process, in milliseconds. */
const LONGEST_LOOK_MS = 1_000;
/** Looks in the life of a lock: it is renewed in time even if one of them comes late. */
const LOOKS = 3;

/** The time for which a lock is kept between turns. */
class LeaseHold implements DeadlineNode {
  previous: DeadlineNode | undefined = undefined;
  next: DeadlineNode | undefined = undefined;
  deadlineMs = 0;

  constructor(readonly hold: RedisHold) {}
}

/**
 * States on a Redis server, shared by every process that uses the same one.
 *
 * A turn takes two round trips, one script each: one takes the lock and loads the states, one writes them and gives the
 * lock up; one, when its caller comes back in the tick in which he was answered. Callers of one process queue here, and the first of them stands for all on the server; while this process has
 * a lock its turns share commits. The server hands a lock that is given up to the next process at once.
 */
export class RedisStateManager extends LockingStateManager implements HoldHost {
  readonly codec = new StateCodec();
  readonly commands: LockCommands;
  readonly expirationMs: number;
  readonly lockExpirationMs: number;
  readonly leaseHoldMs: number;
  readonly underWay = new OpenWork();

  private readonly instance: string;
  private readonly keys: RedisKeys;
  private readonly connection: RedisConnection;
  private readonly holds = new HoldTable();
  private ownerCount = 0;
  private readonly renewals = new DeadlineQueue<RedisHold>();
  private readonly renewer: DeadlineWorker<RedisHold>;
  private readonly leaseHolds = new Map<RedisHold, LeaseHold>();
  private readonly leaseQueue = new DeadlineQueue<LeaseHold>();
  private readonly leaseEnder: DeadlineWorker<LeaseHold>;
  /** Whose turns were answered in this tick. */
  private readonly answeredIdents = new Set<string>();
  private readonly expirations: ExpirationWatch;
  private readonly watched: RedisWatches;
  private readonly unreadable = new UnreadableRecords((message, ident, name) => {
    this.logger.warn(message);
    this.emit('unreadable', ident, [name]);
  });

  constructor(
    options: ResolvedStateOptions,
    override readonly clock: Clock = new SystemClock(),
  ) {
    super(options, clock);
    const { redis, expirationMs, lockExpirationMs } = options;
    this.expirationMs = expirationMs;
    this.lockExpirationMs = lockExpirationMs;
    this.leaseHoldMs = redis.leaseHoldMs;
    this.instance = (this.leaseHoldMs > 0 ? LEASING : '') + randomBytes(INSTANCE_BYTES).toString('base64url');
    this.keys = new RedisKeys(redis.keyPrefix);
    this.connection = new RedisConnection({ ...redis, clock });
    this.commands = new LockCommands(this.connection, this.keys, {
      clock,
      expirationMs,
      lockExpirationMs,
      leaseHoldMs: this.leaseHoldMs,
    });
    this.renewer = new DeadlineWorker(this.renewals, {
      clock,
      onDue: (hold) => this.renew(hold),
      onError: (error) => this.logger.error('Renewing locks failed, trying again in a second.', error),
    });
    this.leaseEnder = new DeadlineWorker(this.leaseQueue, {
      clock,
      onDue: ({ hold }) => hold.endLease(),
      onError: (error) => this.logger.error('Ending leases failed, trying again in a second.', error),
    });
    this.watched = new RedisWatches({
      clock,
      codec: this.codec,
      commands: this.commands,
      keys: this.keys,
      instance: this.instance,
      expirationMs,
      flush: (ident) => this.holds.of(ident)?.flush(),
      onUnreadable: ({ ident, state }, record, error) =>
        this.unreadable.found(ident, state.definition, record, error),
    });
    this.expirations = new ExpirationWatch({
      clock,
      windowMs: expirationMs,
      look: (ident, onLeft, onFailed) => this.commands.notice(this.keys.ofIdent(ident), onLeft, onFailed),
      onExpired: (ident, names, records) => this.expired(ident, names, records),
      onError: (error) =>
        this.logger.debug(`Whether states have expired could not be seen: ${String(error)}`),
    });
  }

  async getState<T>(token: StateToken<T>): Promise<Immutable<T>> {
    this.assertReadable();
    const { ident, definition } = token;
    const known = this.holds.of(ident)?.read();
    const snapshot =
      known === undefined
        ? await this.readStored(ident, definition)
        : known.read(definition, (record, error) => this.unreadable.found(ident, definition, record, error));
    if (snapshot === undefined) return freshSnapshot(definition).value as Immutable<T>;
    return readable(snapshot, definition.name) as Immutable<T>;
  }

  async count(): Promise<number> {
    this.assertReadable();
    // Whoever is not stored hears of it himself: this one asks how many are.
    await Promise.allSettled(this.holds.all.map((hold) => hold.flush()));
    return this.connection.countKeys(this.keys.statesPattern(this.connection.keyPrefix));
  }

  override async reachStore(): Promise<void> {
    this.assertReadable();
    // A read of what is nobody's: on a cluster it is now this node that answers, now that one.
    await this.commands.read(this.keys.ofIdent(randomBytes(INSTANCE_BYTES).toString('base64url')), 'health');
  }

  stats(): StateStats {
    const { openTurns, mutex } = this;
    return { mode: 'redis', openTurns, waiting: mutex.waiting + mutex.held - openTurns };
  }

  async takeCensus(limit: number): Promise<StateCensus> {
    this.assertReadable();
    const outerPrefix = this.connection.keyPrefix;
    return takeRedisCensus(this.connection, this.keys.statesPattern(outerPrefix), outerPrefix, limit);
  }

  readState(turn: ManagedTurn, definition: StateDefinition): Snapshot | undefined {
    return holdOf(turn).held.read(definition, (record, error) =>
      this.unreadable.found(turn.ident, definition, record, error),
    );
  }

  hasStates(turn: ManagedTurn): boolean {
    return !holdOf(turn).held.isEmpty;
  }

  writeStates(turn: ManagedTurn, changes: TurnChanges): Promise<void> | undefined {
    return holdOf(turn).accept(turn, changes);
  }

  override writeTogether(turns: readonly PreparedTurn[]): Promise<void> | undefined {
    if (turns.every(({ changes }) => !changes.deleteAll && changes.changed.length === 0)) {
      const storing = turns.flatMap(({ turn, changes }) => this.writeStates(turn, changes) ?? []);
      return storing.length === 0 ? undefined : allStored(storing);
    }
    const shares = turns.map(({ turn, changes }) => ({ hold: holdOf(turn), turn, changes }));
    const storing = new JointCommit(this, shares).store();
    void this.underWay.add(storing.catch(() => undefined));
    return storing;
  }

  override whenReleased(turn: ManagedTurn): Promise<void> | undefined {
    return holdOf(turn).whenReleased();
  }

  /** @internal */
  isClaimed(ident: string): boolean {
    return this.mutex.ownerOf(ident) !== undefined;
  }

  /** @internal */
  isWatched(ident: string): boolean {
    return this.watches.isWatched(ident);
  }

  /** @internal */
  held(hold: RedisHold): void {
    this.watchOver(hold);
    if (hold.held.isEmpty) say(() => this.expirations.foundNothing(hold.ident));
    if (this.leaseHoldMs === 0) return;
    const lease = new LeaseHold(hold);
    this.leaseHolds.set(hold, lease);
    this.leaseQueue.push(lease, this.clock.nowMs() + this.leaseHoldMs);
    this.leaseEnder.wakeInTime();
  }

  /** @internal */
  ended(hold: RedisHold): void {
    this.holds.remove(hold);
    this.renewals.remove(hold);
    const lease = this.leaseHolds.get(hold);
    if (lease === undefined) return;
    this.leaseQueue.remove(lease);
    this.leaseHolds.delete(hold);
  }

  /** @internal */
  answered({ ident }: RedisHold): void {
    if (this.answeredIdents.size === 0) process.nextTick(this.forgetAnswered);
    this.answeredIdents.add(ident);
  }

  private readonly forgetAnswered = (): void => this.answeredIdents.clear();

  /** @internal */
  released({ ident, held }: RedisHold, windowMs: number, isHanded: boolean): void {
    if (held.isEmpty) return;
    say(() => {
      this.touch(ident, held.names, (name) => held.record(name) as StateRecord);
      if (isHanded) this.expirations.yield(ident);
      // It was over while the lock was kept between turns, unless another process has read them.
      if (windowMs <= 0) this.expirations.end(ident);
    });
  }

  /** @internal */
  unsettled({ ident }: RedisHold): void {
    this.expirations.doubt(ident);
  }

  /** @internal */
  committed(hold: RedisHold, made: StatesMade): void {
    if (made.deleted.length + made.created.length > 0) say(() => this.sayCommitted(hold, made));
  }

  private sayCommitted({ ident }: RedisHold, { created, deleted, changed, gone, movedTo }: StatesMade): void {
    if (deleted.length > 0) {
      this.expirations.forget(ident);
      if (movedTo === undefined) this.sayDeleted(ident, deleted, gone);
      else this.emitRenamed(ident, movedTo, deleted);
    }
    if (created.length === 0) return;
    for (const { draft, snapshot } of changed) {
      if (created.includes(draft.definition.name))
        this.hooks.announceState('created', draft.definition, ident, snapshot);
    }
    this.emit('created', ident, created);
  }

  private sayDeleted(ident: string, names: readonly string[], gone: HeldStates | undefined): void {
    for (const name of names)
      this.hooks.announce('deleted', name, ident, (definition) =>
        gone?.read(definition, (record, error) => this.unreadable.found(ident, definition, record, error)),
      );
    this.emit('deleted', ident, names);
  }

  /** @internal */
  turnLost(turn: ManagedTurn, error: StateError): void {
    say(() => this.loseLock(turn, error));
  }

  /** @internal */
  commitLost(_hold: RedisHold, turn: ManagedTurn | undefined, error: StateError): void {
    if (turn === undefined || !(error instanceof LockExpiredError)) return;
    say(() => this.sayLost(turn, error));
  }

  /** @internal */
  get tellsOfLost(): boolean {
    return this.hooks.has('lock-lost');
  }

  /** @internal */
  acknowledgedLost({ ident }: RedisHold, count: number, begun: BegunStates): void {
    for (const [definition, state] of begun) this.hooks.announceState('lock-lost', definition, ident, state);
    say(() => {
      this.logger.error(
        `${count} turns of ident #${hashIdent(ident)} were acknowledged under \`redis.leaseHold\` and may not be ` +
          'stored: the lock was lost, or Redis silent, before they could be. Shorten `redis.leaseHold`, or do without it.',
      );
      this.emit('lock-lost', ident, []);
    });
  }

  protected async openStore(): Promise<void> {
    await this.connection.open(this.keys.channelOf(this.instance), (message) => this.wake(message));
    this.renewer.start();
    this.leaseEnder.start();
  }

  protected async closeStore(): Promise<void> {
    this.commands.stop();
    for (const hold of this.holds.all) hold.giveUp();
    await this.underWay.whenDone();
    await this.commands.whenAllLeft();
    this.renewer.stop();
    this.leaseEnder.stop();
    this.expirations.stop();
    this.watched.stop();
    await this.connection.close();
  }

  protected stateWatched(ident: string, state: WatchedState): void {
    this.watched.watched(ident, state);
  }

  protected override watchJoined(state: WatchedState): void {
    this.watched.joined(state);
  }

  protected override stateUnwatched(ident: string, state: WatchedState): void {
    this.watched.unwatched(ident, state);
  }

  protected trySecure(turn: ManagedTurn): boolean {
    return this.holds.of(turn.ident)?.tryEnter(turn) === true;
  }

  protected whenSecurable(turn: ManagedTurn, wait: LockWait): Promise<unknown> {
    const { ident } = turn;
    const canWait = wait.timeoutMs > 0 && this.options.maxWaiters > 0;
    const hold = this.holds.of(ident) ?? this.openHold(ident, canWait);
    const { request } = hold;
    const leftMs = wait.timeoutMs - (this.clock.nowMs() - wait.startMs);
    if (request.phase === 'waiting')
      return this.forLock(request.whenGranted(), turn, wait, leftMs, 'held by another process');
    // Whoever tries only once is told how that went, however long it takes.
    const patienceMs = wait.timeoutMs > 0 ? leftMs : Infinity;
    if (request.phase === 'over')
      return this.forLock(hold.whenGone(), turn, wait, patienceMs, 'being stored or given up');
    // It may be the question of somebody who would not have waited, and has left: then another one is asked.
    const asked = canWait && !request.canWait ? request.whenAsked().then(() => true) : request.whenAsked();
    // That ends with `commandTimeout` at the latest: who has more time than that needs no timer of his own.
    const isPatient = patienceMs > this.options.redis.commandTimeoutMs;
    if (isPatient && wait.signal === undefined) return asked;
    const holder = 'not granted yet, because Redis has not answered';
    return this.forLock(asked, turn, wait, isPatient ? Infinity : patienceMs, holder);
  }

  /** Waits for what `turn` needs to get its lock, for `leftMs` at most and until its signal; `holder` says where that is. */
  private forLock(
    event: Promise<unknown>,
    turn: ManagedTurn,
    { timeoutMs, signal }: LockWait,
    leftMs: number,
    holder: string,
  ): Promise<unknown> {
    return this.inTime(event, signal, leftMs, () => lockTimeout(turn, timeoutMs, holder));
  }

  protected override waitingOutside(ident: string): number {
    return this.holds.of(ident)?.request.phase === 'waiting' ? 1 : 0;
  }

  protected lockReleased(turn: ManagedTurn): void {
    const hold = (turn.held as RedisHold | undefined) ?? this.holds.of(turn.ident);
    hold?.release(turn);
  }

  protected override cancelSecuring(): void {
    for (const { request } of this.holds.all) request.cancel(new StateManagerClosedError());
  }

  private openHold(ident: string, canWait: boolean): RedisHold {
    const number = (this.ownerCount += 1);
    const owner = RedisKeys.owner(this.instance, number);
    const comesBack = this.answeredIdents.has(ident);
    const hold = new RedisHold(this, ident, this.keys.ofIdent(ident), owner, number, comesBack);
    this.holds.add(hold);
    hold.ask(canWait);
    return hold;
  }

  private wake(message: Buffer): void {
    const wake = parseWake(message);
    if (wake === undefined) return;
    if (wake.type === 'changed') {
      this.watched.hear(wake);
      return;
    }
    const hold = this.holds.ofOwner(wake.owner);
    if (wake.type === 'wanted') hold?.wanted();
    else if (wake.type === 'watched') hold?.watched();
    else if (hold !== undefined) hold.request.handed(wake);
    // Whoever waited has left: the next one's turn.
    else void this.commands.leave({ keys: this.keys.ofHash(wake.hash), owner: wake.owner });
  }

  private renew(hold: RedisHold): void {
    void hold.renew();
    if (hold.phase === 'held') this.watchOver(hold);
  }

  private watchOver(hold: RedisHold): void {
    const lookMs = Math.min(this.lockExpirationMs, LONGEST_LOOK_MS) / LOOKS;
    this.renewals.push(hold, this.clock.nowMs() + lookMs);
    this.renewer.wakeInTime();
  }

  private async readStored(ident: string, definition: StateDefinition): Promise<Snapshot | undefined> {
    const record = await this.commands.read(this.keys.ofIdent(ident), definition.name);
    if (record === undefined) {
      this.expirations.foundNothing(ident, definition.name);
      return undefined;
    }
    this.touch(ident, [definition.name], () => record);
    return this.decode(ident, definition, record);
  }

  /** A window of the ident has begun. What nobody wants to know at its end is not kept. */
  private touch(ident: string, names: readonly string[], recordOf: (name: string) => StateRecord): void {
    if (!this.hooks.has('expired')) {
      if (this.isObserved) this.expirations.touch(ident, names);
      return;
    }
    const wanted = names.filter((name) => this.hooks.has('expired', name));
    if (wanted.length === 0 && !this.isObserved) return;
    // A record from the server is a part of all it has sent at once, which would be kept alive with it.
    this.expirations.touch(ident, names, new Map(wanted.map((name) => [name, ownCopyOf(recordOf(name))])));
  }

  private expired(ident: string, names: readonly string[], records: KeptRecords): void {
    for (const [name, record] of records) {
      this.hooks.announce('expired', name, ident, (definition) => this.decode(ident, definition, record));
    }
    this.emit('expired', ident, names);
  }

  private decode(
    ident: string,
    definition: StateDefinition,
    record: string | Uint8Array,
  ): Snapshot | undefined {
    try {
      return this.codec.decode(definition, record);
    } catch (error) {
      this.unreadable.found(ident, definition, record, error);
      return undefined;
    }
  }
}

/** A logger that throws keeps nobody from hearing of his turn, and ends no process from a promise nobody waits for. */
function say(words: () => void): void {
  try {
    words();
  } catch {
    // It is the logger of the application that has failed, and there is nobody else to tell.
  }
}

/** Waits for every one of them, so that no failure is left without somebody to hear of it, and throws the first. */
async function allStored(storing: readonly Promise<void>[]): Promise<void> {
  const outcomes = await Promise.allSettled(storing);
  for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason;
}

function ownCopyOf(record: StateRecord): string | Uint8Array {
  return typeof record === 'string' ? record : new Uint8Array(record);
}

function holdOf(turn: ManagedTurn): RedisHold {
  return turn.held as RedisHold;
}

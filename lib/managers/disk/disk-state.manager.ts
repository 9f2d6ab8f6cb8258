import { hash } from 'node:crypto';
import type { SchedulerRegistry } from '@nestjs/schedule';
import type { Immutable } from 'immer';
import { SystemClock, type Clock } from '../../internal/clock.js';
import { DeadlineQueue } from '../../internal/deadline-queue.js';
import { StateCodec, type StateRecord } from '../../internal/state-codec.js';
import type { StateDefinition } from '../../internal/state-definition.js';
import { freshSnapshot, readable, type Snapshot } from '../../internal/state-draft.js';
import { StateStoreUnavailableError, type StateError } from '../../state.errors.js';
import type { ResolvedStateOptions } from '../../state.options.js';
import type { StateToken } from '../../state.token.js';
import { HeldStates } from '../held-states.js';
import { LocalStateManager } from '../local/local-state.manager.js';
import { ManagedTurn, type PreparedTurn, type TurnChanges } from '../managed-turn.js';
import { UnreadableRecords } from '../unreadable-records.js';
import type { WatchedState } from '../watch/watched-state.js';
import { DiskEntry } from './disk-entry.js';
import { DiskHold, type AcceptedCommit } from './disk-hold.js';
import { DiskStore, type IdentUse } from './disk-store.js';
import { DiskWriter } from './disk-writer.js';

/** Hexadecimal digits of the hash that stands for an ident: 160 bits. Its first twelve are those that logs and events show. */
const HASH_LENGTH = 40;
const SHOWN_LENGTH = 12;
/** How often a failure that comes again is said, in milliseconds. */
const SAY_EVERY_MS = 60_000;

/**
 * States in a folder of this machine: there after a restart, for one process at a time.
 *
 * Of each ident its deadline and the names of its states are in memory, the states themselves only while they are in use.
 * Reads are answered from the memory map at once; a turn is acknowledged when it is on the disk, together with all that
 * were waiting for that.
 */
export class DiskStateManager extends LocalStateManager<DiskEntry> {
  private readonly codec = new StateCodec();
  private readonly holds = new Map<string, DiskHold>();
  private readonly unreadable = new UnreadableRecords((message, ident, name) => {
    this.logger.warn(message);
    this.emit('unreadable', ident, [name]);
  });
  /** The same names for all idents that have them. */
  private readonly knownNames = new Map<string, readonly string[]>();
  private opened: { readonly store: DiskStore; readonly writer: DiskWriter } | undefined;
  private failureSaidAtMs = -Infinity;

  /**
   * @param wallClockMs The time of day, in milliseconds: what a deadline is reckoned by across a restart.
   * @param freeBytes How much room the disk has left.
   */
  constructor(
    options: ResolvedStateOptions,
    schedulers: () => SchedulerRegistry,
    clock: Clock = new SystemClock(),
    private readonly wallClockMs: () => number = Date.now,
    private readonly freeBytes?: () => Promise<number>,
  ) {
    super(options, schedulers, clock);
  }

  async getState<T>(token: StateToken<T>): Promise<Immutable<T>> {
    this.assertReadable();
    const { ident, definition } = token;
    const key = keyOf(ident);
    const entry = this.liveEntry(key);
    const snapshot = this.read(ident, key, entry, definition);
    if (snapshot === undefined) return freshSnapshot(definition).value as Immutable<T>;
    // What is being deleted or moved has no entry any more, and is what is committed until the disk knows of it.
    if (entry !== undefined && DeadlineQueue.isQueued(entry)) this.use(entry, ident);
    return readable(snapshot, definition.name) as Immutable<T>;
  }

  readState(turn: ManagedTurn, definition: StateDefinition): Snapshot | undefined {
    return holdOf(turn).held.read(definition, this.unreadableOf(turn.ident, definition));
  }

  hasStates(turn: ManagedTurn): boolean {
    return !holdOf(turn).held.isEmpty;
  }

  writeStates(turn: ManagedTurn, changes: TurnChanges): Promise<void> | undefined {
    return this.writeTogether([{ turn, changes }]);
  }

  override writeTogether(turns: readonly PreparedTurn[]): Promise<void> | undefined {
    const { writer } = this.store;
    // What cannot be stored has to show before the first of them is taken over.
    for (const { turn, changes } of turns) holdOf(turn).held.check(changes);
    // Who is to have states of another ident takes them before that one loses them.
    const heirs = turns.filter(({ changes }) => changes.from !== undefined);
    const inOrder = heirs.length === 0 ? turns : [...heirs, ...turns.filter((each) => !heirs.includes(each))];
    const commits = inOrder.flatMap(({ turn, changes }) => this.accept(holdOf(turn), changes) ?? []);
    if (!writer.isAwaited) for (const commit of commits) this.tell(commit, commit.hold.held);
    // Who has changed nothing may have seen what is not on the disk yet.
    const settled = turns.flatMap(({ turn }) => writer.settled(holdOf(turn)) ?? []);
    return settled.length < 2 ? settled[0] : Promise.all(settled).then(() => undefined);
  }

  override async reachStore(): Promise<void> {
    this.assertReadable();
    void this.store;
  }

  protected override async openStore(): Promise<void> {
    const { options, clock } = this;
    const store = await DiskStore.open(options.disk.path, this.freeBytes);
    const writer = new DiskWriter({
      clock,
      store,
      flushIntervalMs: options.disk.flushIntervalMs,
      windowMs: options.expirationMs,
      useOf: (key) => this.useOf(key),
      onWritten: (views) => this.written(views),
      onFailed: (error) => this.failed(error as StateError),
      onError: (error) => this.logger.error('Telling of what was written failed.', error),
    });
    this.opened = { store, writer };
    this.load();
    await super.openStore();
  }

  protected override async closeStore(): Promise<void> {
    if (this.opened === undefined) return super.closeStore();
    const { store, writer } = this.opened;
    this.expiration.stop();
    try {
      await writer.flush();
    } catch (error) {
      this.logger.error('The last states could not be written.', error);
    }
    writer.stop();
    this.holds.clear();
    await super.closeStore();
    await store.close();
    return undefined;
  }

  protected trySecure(turn: ManagedTurn, nowMs: number): boolean {
    try {
      this.take(turn, nowMs);
      return true;
    } catch {
      return false;
    }
  }

  protected async whenSecurable(turn: ManagedTurn): Promise<void> {
    // What has kept it from being read a moment ago is thrown now.
    this.take(turn);
  }

  protected lockReleased({ ident }: ManagedTurn): void {
    // The lock may have been handed to a waiter: then its release will come.
    if (this.mutex.ownerOf(ident) !== undefined) return;
    const key = keyOf(ident);
    const entry = this.entries.get(key);
    const hold = this.holds.get(key);
    if (entry !== undefined && !this.isAwaited(hold)) this.use(entry, ident);
    this.forgetIfIdle(hold);
    this.restIfEmpty();
  }

  protected stateWatched(ident: string, state: WatchedState): void {
    const key = keyOf(ident);
    const entry = this.liveEntry(key);
    if (entry !== undefined) entry.ident = ident;
    const { definition } = state;
    try {
      const states = this.holds.get(key)?.committed ?? this.loadStates(entry);
      state.look(states.stored(definition, this.unreadableOf(ident, definition)));
      state.greet();
    } catch (error) {
      state.fail(error);
    }
  }

  protected visitNames({ names }: DiskEntry, visit: (name: string) => void): void {
    for (const name of names) visit(name);
  }

  protected bytesOf({ hash: key }: DiskEntry, name: string): number | undefined {
    // What is not written yet is not looked for: encoding it costs more than knowing it is worth.
    return this.store.store.read(key, name)?.length;
  }

  protected expire(entry: DiskEntry): void {
    const { hash: key, ident, names } = entry;
    const states = this.hooks.has('expired') && ident !== undefined ? this.statesOf(entry) : undefined;
    this.idle.remove(entry);
    this.entries.delete(key);
    this.holds.delete(key);
    this.stateCount -= names.length;
    this.store.writer.remove(key);
    this.restIfEmpty();
    // Since a restart nobody has said who it is, and nobody can have asked to be told.
    if (ident !== undefined) {
      this.watches.gone(ident, 'expired');
      if (states !== undefined) this.announceAll('expired', ident, names, states);
    }
    this.emitOf('expired', key.slice(0, SHOWN_LENGTH), names);
  }

  private get store(): { readonly store: DiskStore; readonly writer: DiskWriter } {
    if (this.opened === undefined) throw new StateStoreUnavailableError('The disk store is not open yet.');
    return this.opened;
  }

  /** What the store had when it was opened. What has expired meanwhile goes. */
  private load(): void {
    const { store, writer } = this.store;
    const { expirationMs } = this.options;
    const nowMs = this.clock.nowMs();
    const wallMs = this.wallClockMs();
    const loaded: [leftMs: number, entry: DiskEntry][] = [];
    for (const [key, { usedAtMs, names }] of store.uses(wallMs)) {
      // A clock that was set back makes no window longer.
      const leftMs = Math.min(usedAtMs + expirationMs - wallMs, expirationMs);
      if (leftMs > 0) loaded.push([leftMs, new DiskEntry(key, this.shared(names))]);
      else writer.remove(key);
    }
    loaded.sort(([a], [b]) => a - b);
    for (const [leftMs, entry] of loaded) {
      this.entries.set(entry.hash, entry);
      this.stateCount += entry.names.length;
      this.idle.push(entry, nowMs + leftMs);
    }
  }

  /** Lets `turn`, which has the lock, find the states of its ident. @throws {StateStoreUnavailableError} */
  private take(turn: ManagedTurn, nowMs?: number): void {
    const { ident } = turn;
    const key = keyOf(ident);
    const entry = this.liveEntry(key, nowMs);
    let hold = this.holds.get(key);
    if (hold === undefined) {
      const { isAwaited } = this.store.writer;
      hold = new DiskHold(ident, key, this.loadStates(entry), entry === undefined, isAwaited);
      this.holds.set(key, hold);
    }
    if (entry !== undefined) this.idle.remove(entry);
    turn.held = hold;
  }

  private accept(hold: DiskHold, changes: TurnChanges): AcceptedCommit | undefined {
    const { deleteAll, changed, from } = changes;
    if (!deleteAll && changed.length === 0 && from === undefined) return undefined;
    const moved = from && holdOf(from).held;
    const commit = hold.accept(changes, this.watches.isWatched(hold.ident), moved);
    this.index(hold);
    this.store.writer.add(hold);
    return commit;
  }

  /** Keeps the index in step with what the hold has. */
  private index({ ident, hash: key, held }: DiskHold): void {
    const entry = this.entries.get(key);
    const names = this.shared(held.names);
    this.stateCount += names.length - (entry?.names.length ?? 0);
    if (names.length === 0) {
      if (entry !== undefined) this.idle.remove(entry);
      this.entries.delete(key);
    } else if (entry === undefined) {
      const added = new DiskEntry(key, names);
      added.ident = ident;
      this.entries.set(key, added);
    } else {
      entry.names = names;
    }
  }

  private written(views: ReadonlyMap<DiskHold, HeldStates>): void {
    const commits: AcceptedCommit[] = [];
    for (const [hold, view] of views) {
      commits.push(...hold.written(view));
      this.beginWindow(hold);
      this.forgetIfIdle(hold);
    }
    // Nobody is to hear of one of the states before all of them can be seen.
    for (const commit of commits) this.tell(commit, views.get(commit.hold) as HeldStates);
  }

  /** Nothing that waited is stored. Where callers wait for the disk they are told, and nothing goes on with what they made. */
  private failed(error: StateError): void {
    const { writer } = this.store;
    if (!writer.isAwaited) {
      const nowMs = this.clock.nowMs();
      if (nowMs - this.failureSaidAtMs < SAY_EVERY_MS) return;
      this.failureSaidAtMs = nowMs;
      this.logger.error('States could not be written, trying again until it works.', error);
      return;
    }
    for (const hold of this.holds.values()) {
      if (!hold.isUnwritten) continue;
      this.holds.delete(hold.hash);
      this.restore(hold);
      const owner = this.mutex.ownerOf(hold.ident);
      if (owner instanceof ManagedTurn && owner.held === hold) this.loseLock(owner, error);
    }
  }

  /** The index as the disk has it, once what has expired is removed there. */
  private restore({ ident, hash: key }: DiskHold): void {
    const before = this.entries.get(key);
    if (before !== undefined) {
      this.idle.remove(before);
      this.entries.delete(key);
      this.stateCount -= before.names.length;
    }
    const { store, writer } = this.store;
    // It had expired before what has failed was made: what the disk still has must not come back.
    if (writer.isRemoving(key)) return;
    let use: IdentUse | undefined;
    try {
      use = store.use(key);
    } catch (error) {
      this.logger.error('What the disk has of an ident could not be seen.', error);
    }
    if (use === undefined) return;
    const entry = new DiskEntry(key, this.shared(use.names));
    entry.ident = ident;
    this.entries.set(key, entry);
    this.stateCount += entry.names.length;
    if (this.mutex.ownerOf(ident) === undefined) this.touch(entry, this.clock.nowMs());
  }

  /** Lets others know of what is stored now. `view` has it, unless the commit has a view of its own. */
  private tell(commit: AcceptedCommit, view: HeldStates): void {
    const { ident } = commit.hold;
    const { created, deleted, changed, gone, moved, movedTo } = commit.made;
    if (deleted.length > 0) {
      this.watches.gone(ident, 'deleted');
      if (movedTo !== undefined) this.emitRenamed(ident, movedTo, deleted);
      else {
        if (gone !== undefined) this.announceAll('deleted', ident, deleted, gone);
        this.emit('deleted', ident, deleted);
      }
    }
    const names = new Set(moved);
    for (const { draft, snapshot } of changed) {
      const { definition } = draft;
      names.add(definition.name);
      if (created.includes(definition.name)) this.hooks.announceState('created', definition, ident, snapshot);
    }
    if (this.watches.isWatched(ident)) {
      const states = commit.view ?? view;
      for (const name of names)
        this.watches.committed(ident, name, (as) => states.stored(as, this.unreadableOf(ident, as)));
    }
    if (created.length > 0) this.emit('created', ident, created);
  }

  private announceAll(
    reason: 'deleted' | 'expired',
    ident: string,
    names: readonly string[],
    states: HeldStates,
  ): void {
    for (const name of names)
      this.hooks.announce(reason, name, ident, (as) => states.read(as, this.unreadableOf(ident, as)));
  }

  private use(entry: DiskEntry, ident: string): void {
    entry.ident = ident;
    this.touch(entry, this.clock.nowMs());
    this.store.writer.used(entry.hash);
  }

  private useOf(key: string): IdentUse | undefined {
    const entry = this.entries.get(key);
    if (entry === undefined) return undefined;
    // By the clock that nobody sets: how long ago that was.
    const idleMs = DeadlineQueue.isQueued(entry)
      ? this.clock.nowMs() - (entry.deadlineMs - this.options.expirationMs)
      : 0;
    return { usedAtMs: this.wallClockMs() - idleMs, names: entry.names };
  }

  /** Whether callers wait until what it has is written: its window begins then, or it could end before there is anything. */
  private isAwaited(hold: DiskHold | undefined): boolean {
    return hold?.isUnwritten === true && this.store.writer.isAwaited;
  }

  /** The one that did not begin with the end of the turn. That the ident was used then is written already. */
  private beginWindow(hold: DiskHold): void {
    const entry = this.entries.get(hold.hash);
    if (entry === undefined || DeadlineQueue.isQueued(entry)) return;
    if (hold.isUnwritten || this.mutex.ownerOf(hold.ident) !== undefined) return;
    entry.ident = hold.ident;
    this.touch(entry, this.clock.nowMs());
  }

  private forgetIfIdle(hold: DiskHold | undefined): void {
    if (hold === undefined || hold.isUnwritten || this.mutex.ownerOf(hold.ident) !== undefined) return;
    if (this.holds.get(hold.hash) === hold) this.holds.delete(hold.hash);
  }

  private read(
    ident: string,
    key: string,
    entry: DiskEntry | undefined,
    definition: StateDefinition,
  ): Snapshot | undefined {
    const onUnreadable = this.unreadableOf(ident, definition);
    const hold = this.holds.get(key);
    if (hold !== undefined) return hold.committed.read(definition, onUnreadable);
    if (entry === undefined || !entry.names.includes(definition.name)) return undefined;
    return this.loadStates(entry, [definition.name]).read(definition, onUnreadable);
  }

  private statesOf(entry: DiskEntry): HeldStates | undefined {
    try {
      return this.holds.get(entry.hash)?.committed ?? this.loadStates(entry);
    } catch (error) {
      this.logger.error('Hooks for states that have expired cannot be called.', error);
      return undefined;
    }
  }

  private loadStates(entry: DiskEntry | undefined, names = entry?.names ?? []): HeldStates {
    const fields: Buffer[] = [];
    for (const name of names) {
      const record = this.store.store.read((entry as DiskEntry).hash, name);
      if (record !== undefined) fields.push(Buffer.from(name), record);
    }
    return HeldStates.load(fields, this.codec);
  }

  private unreadableOf(
    ident: string,
    definition: StateDefinition,
  ): (record: StateRecord, error: unknown) => void {
    return (record, error) => this.unreadable.found(ident, definition, record, error);
  }

  private shared(names: readonly string[]): readonly string[] {
    const key = JSON.stringify(names);
    let shared = this.knownNames.get(key);
    if (shared === undefined) this.knownNames.set(key, (shared = [...names]));
    return shared;
  }
}

function holdOf(turn: ManagedTurn): DiskHold {
  return turn.held as DiskHold;
}

/** What stands for an ident on the disk: it is a credential, and whoever can read the files must not be able to use it. */
function keyOf(ident: string): string {
  return hash('sha256', ident, 'hex').slice(0, HASH_LENGTH);
}

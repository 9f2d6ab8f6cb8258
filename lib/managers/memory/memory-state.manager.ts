import type { SchedulerRegistry } from '@nestjs/schedule';
import type { Immutable } from 'immer';
import { approximateSize } from '../../internal/approximate-size.js';
import { SystemClock, type Clock } from '../../internal/clock.js';
import { DeadlineQueue } from '../../internal/deadline-queue.js';
import { hashIdent } from '../../internal/ident.js';
import { freshSnapshot, readable, type Snapshot } from '../../internal/state-draft.js';
import type { StateDefinition } from '../../internal/state-definition.js';
import type { ResolvedStateOptions } from '../../state.options.js';
import type { StateToken } from '../../state.token.js';
import { LocalStateManager } from '../local/local-state.manager.js';
import type { ManagedTurn, TurnChanges } from '../managed-turn.js';
import type { StateHookReason } from '../state-hooks.js';
import type { StoredState, WatchedState } from '../watch/watched-state.js';
import { MemoryEntry } from './memory-entry.js';

const EVICTION_WARNING_EVERY_MS = 60_000;

/**
 * States in this process: gone with it, and seen by no other.
 *
 * States are immutable snapshots, so a read is a map lookup and never waits.
 */
export class MemoryStateManager extends LocalStateManager<MemoryEntry> {
  /** What was found unreadable once, and that was said. */
  private readonly unreadable = new WeakSet<object>();
  private evictionWarnedAtMs = -Infinity;

  /** @param schedulers Where the sleeping worker shows itself, the application's own registry if it has one. */
  constructor(
    options: ResolvedStateOptions,
    schedulers: () => SchedulerRegistry,
    clock: Clock = new SystemClock(),
  ) {
    super(options, schedulers, clock);
  }

  async getState<T>(token: StateToken<T>): Promise<Immutable<T>> {
    this.assertReadable();
    const { definition } = token;
    const entry = this.liveEntry(token.ident);
    const snapshot = entry && this.snapshotOf(entry, definition);
    if (entry === undefined || snapshot === undefined) return freshSnapshot(definition).value as Immutable<T>;
    if (DeadlineQueue.isQueued(entry)) this.touch(entry, this.clock.nowMs());
    return readable(snapshot, definition.name) as Immutable<T>;
  }

  readState(turn: ManagedTurn, definition: StateDefinition): Snapshot | undefined {
    const entry = entryOf(turn);
    return entry && this.snapshotOf(entry, definition);
  }

  hasStates(turn: ManagedTurn): boolean {
    return entryOf(turn) !== undefined;
  }

  writeStates(turn: ManagedTurn, { deleteAll, changed, from, to }: TurnChanges): void {
    const { ident } = turn;
    let entry = entryOf(turn);
    if (deleteAll && entry !== undefined) {
      this.remove(entry);
      this.watches.gone(ident, 'deleted');
      if (to === undefined) {
        this.announceAll('deleted', entry);
        this.emit('deleted', ident, entry.names());
      } else {
        to.held = this.moved(entry, to.ident);
        this.emitRenamed(ident, to.ident, entry.names());
      }
      entry = undefined;
    }
    const created: string[] = [];
    for (const { draft, snapshot } of changed) {
      const { definition } = draft;
      if (entry === undefined) {
        entry = new MemoryEntry(ident, definition, snapshot);
        this.entries.set(ident, entry);
      } else if (!entry.store(definition, snapshot)) continue;
      created.push(definition.name);
      this.hooks.announceState('created', definition, ident, snapshot);
    }
    turn.held = entry;
    if (entry !== undefined && this.watches.isWatched(ident))
      this.tellWatchers(entry, from === undefined ? namesOf(changed) : entry.names());
    if (created.length === 0) return;
    this.stateCount += created.length;
    this.emit('created', ident, created);
    this.evictBeyondLimit();
  }

  protected visitNames(entry: MemoryEntry, visit: (name: string) => void): void {
    entry.visitNames(visit);
  }

  protected bytesOf(entry: MemoryEntry, name: string): number | undefined {
    return approximateSize(entry.find(name)?.snapshot.value);
  }

  protected expire(entry: MemoryEntry): void {
    this.drop(entry, 'expired');
  }

  protected override knownIdent(ident: string): string {
    return this.entries.get(ident)?.ident ?? ident;
  }

  protected trySecure(turn: ManagedTurn, nowMs: number): boolean {
    const entry = this.liveEntry(turn.ident, nowMs);
    if (entry !== undefined) this.idle.remove(entry);
    // Who has the lock is the only one who adds or removes it: it is looked up once in a turn.
    turn.held = entry;
    return true;
  }

  protected stateWatched(ident: string, state: WatchedState): void {
    const entry = this.liveEntry(ident);
    state.look(entry && this.stored(entry, state.definition));
    state.greet();
  }

  protected async whenSecurable(): Promise<void> {
    // Never asked: the lock of this process is the only one there is.
  }

  protected lockReleased(turn: ManagedTurn, nowMs: number): void {
    const entry = entryOf(turn);
    // The lock may have been handed to a waiter: then its release will come.
    if (entry !== undefined && this.mutex.ownerOf(turn.ident) === undefined) this.touch(entry, nowMs);
    this.restIfEmpty();
  }

  private drop(entry: MemoryEntry, reason: 'expired' | 'evicted'): void {
    this.remove(entry);
    this.watches.gone(entry.ident, reason);
    this.announceAll(reason, entry);
    if (this.isObserved) this.emit(reason, entry.ident, entry.names());
  }

  /** Lets the hooks know of the end of all states of `entry`, which nobody changes any more. */
  private announceAll(reason: StateHookReason, entry: MemoryEntry): void {
    if (!this.hooks.has(reason)) return;
    for (const name of entry.names())
      this.hooks.announce(reason, name, entry.ident, (definition) => this.snapshotOf(entry, definition));
  }

  private remove(entry: MemoryEntry): void {
    this.idle.remove(entry);
    this.entries.delete(entry.ident);
    this.stateCount -= entry.size;
    this.restIfEmpty();
  }

  private evictBeyondLimit(): void {
    const { maxStates } = this.options.memory;
    // The ident of the running turn is locked and so not in the list: it never evicts itself.
    for (
      let entry = this.idle.first;
      this.stateCount > maxStates && entry !== undefined;
      entry = this.idle.first
    ) {
      this.drop(entry, 'evicted');
      const nowMs = this.clock.nowMs();
      if (nowMs - this.evictionWarnedAtMs < EVICTION_WARNING_EVERY_MS) continue;
      this.evictionWarnedAtMs = nowMs;
      this.logger.warn(
        `More than \`memory.maxStates\` (${maxStates}) states: the longest idle one is evicted ` +
          `(ident #${hashIdent(entry.ident)}), and so on without a further word for a minute. ` +
          'Raise the limit or shorten `expiration`.',
      );
    }
  }

  /** The states of `entry`, which is removed, under another ident. */
  private moved(entry: MemoryEntry, ident: string): MemoryEntry {
    const moved = entry.under(ident);
    this.entries.set(ident, moved);
    this.stateCount += moved.size;
    return moved;
  }

  private tellWatchers(entry: MemoryEntry, names: readonly string[]): void {
    const read = (definition: StateDefinition): StoredState | undefined => this.stored(entry, definition);
    for (const name of names) this.watches.committed(entry.ident, name, read);
  }

  private stored(entry: MemoryEntry, definition: StateDefinition): StoredState | undefined {
    const snapshot = this.snapshotOf(entry, definition);
    if (snapshot === undefined) return undefined;
    return { snapshot, version: entry.find(definition.name)?.version ?? 0 };
  }

  private snapshotOf(entry: MemoryEntry, definition: StateDefinition): Snapshot | undefined {
    const record = entry.find(definition.name);
    if (record === undefined) return undefined;
    try {
      return record.as(definition);
    } catch (error) {
      const { value } = record.snapshot;
      if (!this.unreadable.has(value)) {
        this.unreadable.add(value);
        this.logger.warn(
          `The stored ${definition.name} of ident #${hashIdent(entry.ident)} cannot be read, it starts afresh: ` +
            (error instanceof Error ? error.message : String(error)),
        );
        this.emit('unreadable', entry.ident, [definition.name]);
      }
      return undefined;
    }
  }
}

function namesOf(changed: TurnChanges['changed']): string[] {
  return changed.map(({ draft }) => draft.definition.name);
}

function entryOf(turn: ManagedTurn): MemoryEntry | undefined {
  return turn.held as MemoryEntry | undefined;
}

import { isDeepStrictEqual } from 'node:util';
import type { Immutable } from 'immer';
import type { StateDefinition } from '../../internal/state-definition.js';
import { freshSnapshot, readable, type Snapshot } from '../../internal/state-draft.js';
import { SentStateChange, type StateChangeReason } from './state-change.js';
import type { Watcher } from './watcher.js';

/** A state as it is stored, and how many commits have made it. */
export interface StoredState {
  readonly snapshot: Snapshot;
  readonly version: number;
}

/** One state that is watched, as its watchers have been told of it last. */
export class WatchedState {
  /** How many commits have made it; 0 where nothing is stored. */
  version = 0;
  private snapshot: Snapshot | undefined;
  private readonly watchers = new Set<Watcher>();

  /** @param tell Called when a watcher has something to be told. */
  constructor(
    readonly definition: StateDefinition,
    private readonly tell: (watcher: Watcher) => void,
  ) {}

  /** What its watchers have been told last; `undefined` before the first look. */
  get last(): Snapshot | undefined {
    return this.snapshot;
  }

  /** @param watcher Is told nothing before {@link greet}. */
  add(watcher: Watcher): void {
    this.watchers.add(watcher);
  }

  /** True when it was the last one. */
  remove(watcher: Watcher): boolean {
    return this.watchers.delete(watcher) && this.watchers.size === 0;
  }

  /** The store cannot be asked: whoever was told nothing yet is told that. */
  fail(error: unknown): void {
    for (const watcher of Array.from(this.watchers)) if (watcher.isNew) watcher.fail(error);
  }

  /** Nothing will change any more. */
  complete(): void {
    for (const watcher of Array.from(this.watchers)) watcher.complete();
  }

  /** A look at the store: watchers are told what they have missed. */
  look(stored: StoredState | undefined): void {
    const { snapshot, version } = this;
    if (snapshot === undefined) this.become(stored);
    else if (stored === undefined) this.gone('expired');
    // In another life of the state the numbers are the same, and the content is not.
    else if (stored.version !== version || !isDeepStrictEqual(stored.snapshot.value, snapshot.value))
      this.change(stored, 'resynced');
  }

  /** One commit, or several that have come as one. A state that cannot be read is a fresh one. */
  committed(stored: StoredState | undefined): void {
    if (this.snapshot === undefined) return;
    this.change(stored, stored?.version === this.version + 1 ? 'committed' : 'resynced');
  }

  /** Nothing is stored any more. */
  gone(reason: StateChangeReason): void {
    if (this.snapshot !== undefined && this.version > 0) this.change(undefined, reason);
  }

  /** Tells those who are new what there is. */
  greet(): void {
    if (this.snapshot === undefined) return;
    for (const watcher of this.watchers) {
      if (!watcher.isNew) continue;
      watcher.isNew = false;
      this.put(watcher, 'current', undefined);
    }
  }

  private change(stored: StoredState | undefined, reason: StateChangeReason): void {
    const before = this.snapshot as Snapshot;
    this.become(stored);
    const shared = this.isBinary ? undefined : this.changeFor(reason, before);
    for (const watcher of this.watchers) if (!watcher.isNew) this.put(watcher, reason, before, shared);
  }

  private become(stored: StoredState | undefined): void {
    this.snapshot = stored?.snapshot ?? freshSnapshot(this.definition);
    this.version = stored?.version ?? 0;
  }

  private put(
    watcher: Watcher,
    reason: StateChangeReason,
    before: Snapshot | undefined,
    shared?: SentStateChange,
  ): void {
    watcher.put(shared ?? this.changeFor(reason, before));
    this.tell(watcher);
  }

  /** Typed arrays cannot be frozen: each watcher gets its own. */
  private get isBinary(): boolean {
    return this.snapshot?.binary === true;
  }

  private changeFor(reason: StateChangeReason, before: Snapshot | undefined): SentStateChange {
    const state = readable(this.snapshot as Snapshot, this.definition.name) as Immutable<object>;
    return new SentStateChange(state, this.version, reason, before?.value);
  }
}

import { Observable } from 'rxjs';
import type { StateDefinition } from '../../internal/state-definition.js';
import type { StateToken } from '../../state.token.js';
import { StateEventStream } from '../state-event-stream.js';
import type { StateChange, StateChangeReason } from './state-change.js';
import { WatchedState, type StoredState } from './watched-state.js';
import { Watcher } from './watcher.js';

/** Where the states come from. */
export interface WatchSource {
  /** Somebody watches a state that nobody has watched: it is to be shown what is stored, and what becomes of it. */
  watched(ident: string, state: WatchedState): void;
  /** Somebody else watches it as well: {@link WatchedState.greet} is to be called when it is known to be up to date. */
  joined(state: WatchedState): void;
  /** Nobody watches the state any more. */
  unwatched(ident: string, state: WatchedState): void;
  /** @throws {StateManagerClosedError} after shutdown. */
  assertReadable(): void;
  /** A subscriber has thrown. */
  onError(error: unknown): void;
}

/** The states of one ident that are watched. */
type WatchedIdent = Map<StateDefinition, WatchedState>;

/**
 * Who watches which states, and what they are told.
 *
 * Guarantee: each watcher is told what is committed when it begins, then each change once, in the order of the commits;
 * from the event loop, never from inside of a commit, so one that takes its time or throws keeps no lock. The last one
 * that leaves leaves nothing. Cost: a look into a map for each commit of an ident that nobody watches.
 */
export class StateWatches {
  private readonly idents = new Map<string, WatchedIdent>();
  private readonly toTell = new Set<Watcher>();
  private isTelling = false;

  constructor(private readonly source: WatchSource) {}

  watch<T>(token: StateToken<T>): Observable<StateChange<T>> {
    const stream = new StateEventStream<StateChange<T>>((error) => this.source.onError(error));
    stream.source = new Observable<StateChange<object>>((subscriber) => {
      this.source.assertReadable();
      const watcher = new Watcher(subscriber);
      this.add(token, watcher);
      return () => this.remove(token, watcher);
    });
    return stream;
  }

  /** Whether anybody watches a state of `ident`. */
  isWatched(ident: string): boolean {
    return this.idents.has(ident);
  }

  /** One commit of the state `name`, as each class of that name reads it. */
  committed(
    ident: string,
    name: string,
    read: (definition: StateDefinition) => StoredState | undefined,
  ): void {
    for (const state of this.statesOf(ident)) {
      if (state.definition.name === name) state.committed(read(state.definition));
    }
  }

  /** Everything stored for `ident` is gone. */
  gone(ident: string, reason: StateChangeReason): void {
    for (const state of this.statesOf(ident)) state.gone(reason);
  }

  /** The application shuts down: nothing will change any more. */
  complete(): void {
    for (const states of Array.from(this.idents.values())) {
      for (const state of Array.from(states.values())) state.complete();
    }
  }

  /** The states of `ident` that are watched. */
  statesOf(ident: string): readonly WatchedState[] {
    const states = this.idents.get(ident);
    return states === undefined ? [] : Array.from(states.values());
  }

  private add({ ident, definition }: StateToken<unknown>, watcher: Watcher): void {
    let states = this.idents.get(ident);
    if (states === undefined) {
      states = new Map();
      this.idents.set(ident, states);
    }
    let state = states.get(definition);
    if (state !== undefined) {
      state.add(watcher);
      this.source.joined(state);
      return;
    }
    state = new WatchedState(definition, (told) => this.tellSoon(told));
    states.set(definition, state);
    state.add(watcher);
    this.source.watched(ident, state);
  }

  private remove({ ident, definition }: StateToken<unknown>, watcher: Watcher): void {
    this.toTell.delete(watcher);
    const states = this.idents.get(ident);
    const state = states?.get(definition);
    if (states === undefined || state?.remove(watcher) !== true) return;
    states.delete(definition);
    if (states.size === 0) this.idents.delete(ident);
    this.source.unwatched(ident, state);
  }

  private tellSoon(watcher: Watcher): void {
    this.toTell.add(watcher);
    if (this.isTelling) return;
    this.isTelling = true;
    // What is waited for is the end of the commit, no time: no clock is asked.
    setImmediate(() => {
      this.isTelling = false;
      const watchers = Array.from(this.toTell);
      this.toTell.clear();
      for (const told of watchers) told.deliver();
    });
  }
}

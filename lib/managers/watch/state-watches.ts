import { Observable } from 'rxjs';
import type { StateDefinition } from '../../internal/state-definition.js';
import type { StateToken } from '../../state.token.js';
import { StateEventStream } from '../state-event-stream.js';
import type { StateChange, StateChangeReason } from './state-change.js';
import { WatchedState, type StoredState } from './watched-state.js';
import { Watcher } from './watcher.js';

/** Where the states come from. */
export interface WatchSource {
  /** Somebody watches a state, the first one of the ident perhaps: {@link StateWatches.look} is to be called. */
  watched(ident: string): void;
  /** Nobody watches any state of the ident any more. */
  unwatched(ident: string): void;
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

  /** A look at what is stored: the first one, or one that makes up for what was missed. */
  look(
    ident: string,
    read: (definition: StateDefinition) => StoredState | undefined,
    goneReason: StateChangeReason = 'expired',
  ): void {
    for (const state of this.statesOf(ident)) state.look(read(state.definition), goneReason);
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

  /** The store cannot be asked: those who were told nothing yet are told that. */
  fail(ident: string, error: unknown): void {
    for (const { watchers } of this.statesOf(ident)) {
      for (const watcher of Array.from(watchers)) if (watcher.isNew) watcher.fail(error);
    }
  }

  /** The application shuts down: nothing will change any more. */
  complete(): void {
    for (const states of Array.from(this.idents.values())) {
      for (const { watchers } of Array.from(states.values()))
        for (const watcher of Array.from(watchers)) watcher.complete();
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
    if (state === undefined) {
      state = new WatchedState(definition, (told) => this.tellSoon(told));
      states.set(definition, state);
    }
    state.watchers.add(watcher);
    if (state.last === undefined) this.source.watched(ident);
    else state.greet();
  }

  private remove({ ident, definition }: StateToken<unknown>, watcher: Watcher): void {
    this.toTell.delete(watcher);
    const states = this.idents.get(ident);
    const state = states?.get(definition);
    if (states === undefined || state === undefined) return;
    state.watchers.delete(watcher);
    if (state.watchers.size > 0) return;
    states.delete(definition);
    if (states.size > 0) return;
    this.idents.delete(ident);
    this.source.unwatched(ident);
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

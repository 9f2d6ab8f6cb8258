import type { Type } from '@nestjs/common';
import type { Immutable } from 'immer';
import type { Observable } from 'rxjs';
import type { Duration } from '../internal/duration.js';
import type { StateToken } from '../state.token.js';
import type { StateInspection } from './state-inspection.js';
import type { StateChange } from './watch/state-change.js';

/** Where the states live. */
export type StateManagerMode = 'memory' | 'redis' | 'disk';

/** How one turn is opened. */
export interface TurnOptions {
  /**
   * Ends the call early. Aborted while it waits, the caller leaves the queue and the call rejects with the signal's
   * reason. Aborted later, `turn.signal` aborts too, and the commit is refused with that reason; the lock stays held
   * until the turn ends, because its code may still be running.
   */
  signal?: AbortSignal;
  /** What messages and warnings call this turn, for example `CounterController.increment`. */
  label?: string;
  /** Longest wait for the lock. @default the `acquireTimeout` of the module */
  acquireTimeout?: Duration;
}

/**
 * Exclusive, transactional access of one caller to the states of one ident.
 *
 * Guarantee: nobody else has an open turn of that ident; nothing is stored before `commit`, and all of it or nothing
 * then. Failure: after `maxHold` the lock is lost, `signal` aborts and `commit` rejects. `await using` rolls back
 * unless committed.
 */
export interface StateTurn extends AsyncDisposable {
  readonly ident: string;
  /** Aborts when the lock is lost, with the {@link LockExpiredError} for a reason, or when the caller's signal does. */
  readonly signal: AbortSignal;
  /**
   * The mutable draft of that state; the same one each time. It throws on every use after the turn.
   *
   * @throws {LockExpiredError} when the lock was lost. @throws {StateError} `STATE_TURN_ENDED` after the turn.
   */
  state<T>(cls: Type<T>): Promise<T>;
  /** True when nothing was stored for `cls` when the turn began. */
  isNew(cls: Type<unknown>): boolean;
  /**
   * Stores what was changed and frees the lock; the turn is over, also when this rejects. Committing again does nothing.
   *
   * @throws {StateSerializationError} when a state holds what cannot be stored.
   * @throws {LockExpiredError} when the lock was lost before.
   * @throws {StateStoreUnavailableError} when the store is silent; whether it was stored is unknown then.
   * @throws {StateManagerClosedError} when the manager was closed before.
   */
  commit(): Promise<void>;
  /** Forgets all changes and frees the lock. Does nothing after the turn. */
  rollback(): Promise<void>;
}

/** What happened to the states of an ident. */
export type StateEventType =
  'created' | 'expired' | 'evicted' | 'deleted' | 'renamed' | 'lock-lost' | 'unreadable';

/** One thing that happened, as a process saw it. */
export interface StateEvent {
  readonly type: StateEventType;
  /** A short hash of the ident. The ident itself is a credential and in no event. */
  readonly identHash: string;
  /** The same of the ident that has the states from now on, for `renamed`. */
  readonly newIdentHash?: string;
  /** The names of the state classes concerned; empty for `lock-lost`. */
  readonly states: readonly string[];
}

/** What a manager does right now, in this process. Reading it costs O(1). */
export interface StateStats {
  readonly mode: StateManagerMode;
  /** Turns that hold their lock. */
  readonly openTurns: number;
  /** Callers queued for a lock. */
  readonly waiting: number;
  /** Stored states, one for each ident and class, where that is known without asking a server. */
  readonly states?: number;
}

/**
 * Gives callers locked, transactional access to states, and is the injection token of the one that
 * `StateModule` chose.
 *
 * Every manager keeps the same promises: turns of one ident are exclusive and first in, first out; a turn that fails
 * stores nothing; reads never wait and never see a draft; all states of an ident expire together after an idle time
 * that each use restarts; nothing is left behind.
 */
export abstract class StateManager {
  /**
   * The committed state, immutable, or a fresh one when nothing is stored. Never waits, also while a turn is open;
   * restarts the idle window of a stored state.
   *
   * @throws {StateManagerClosedError} after shutdown. @throws {StateStoreUnavailableError} when the store is silent.
   */
  abstract getState<T>(token: StateToken<T>): Promise<Immutable<T>>;

  /**
   * Replaces the whole state in a turn of its own. `state` is copied; a plain object with the fields of the class is as
   * good as an instance, where the compiler lets it pass (the class has no methods and no private fields).
   *
   * @throws what {@link modifyState} throws.
   */
  abstract setState<T>(token: StateToken<T>, state: T): Promise<void>;

  /**
   * Runs `mutate` in a turn, commits when it succeeds, and resolves with what it returned. A state in the result,
   * alone, inside plain objects and arrays, or in a field of an instance, is replaced by its committed snapshot.
   *
   * When `mutate` throws, nothing is stored and the call rejects with that very error; what it holds of the state is then
   * what that was when it was thrown. Called inside a turn of the
   * same ident it joins that turn: same draft, committed with the outer turn. If a joined call fails, the whole turn
   * is rolled back, also when the outer one catches the error, since half of its changes are in the draft.
   *
   * @throws {LockTimeoutError} after waiting for `acquireTimeout`. @throws {TooManyWaitersError} at once when
   * `maxWaiters` callers are queued. @throws {LockExpiredError} when the lock was lost before the commit.
   * @throws {StateSerializationError} when the state holds what cannot be stored.
   * @throws {StateManagerClosedError} after shutdown began. @throws {StateStoreUnavailableError} when the store is silent.
   */
  abstract modifyState<T, R>(
    token: StateToken<T>,
    mutate: (state: T, turn: StateTurn) => R | Promise<R>,
    options?: TurnOptions,
  ): Promise<R>;

  /**
   * Runs `mutate` with several states, of any idents, in one turn: all of them are locked, and what it has changed is
   * stored together or not at all. Otherwise as {@link modifyState}.
   *
   * Idents are locked one after the other in one fixed order, that of their characters, so calls that name the same ones
   * never wait for each other, in whatever order they name them; `acquireTimeout` bounds the whole wait. States of one ident
   * share one lock, and a token that stands twice gives the same draft twice. Inside of `mutate`, `openTurn(ident)` joins
   * and has the `signal` of that lock.
   *
   * Inside an open turn that has some of the idents it joins that turn: nothing is stored before that one is committed, and
   * all of it then. Idents that it does not have yet are added to it, and stay locked until it ends. Whoever calls it inside
   * an open turn, that one or any other, may only lock idents that sort behind all that are open around the call, and may
   * not join two turns of which one is inside the other.
   *
   * On a Redis Cluster different idents are on different nodes: there the locks are all looked at first, then the
   * states are stored one ident after the other. What fails in between leaves those that came first stored, and rejects with
   * a {@link StateStoreUnavailableError}.
   *
   * @throws {StateError} `STATE_NESTED_TURNS`, before anything is waited for, where an open turn forbids it.
   * @throws what {@link modifyState} throws; {@link LockExpiredError} when one of the locks was lost.
   */
  abstract modifyStates<T extends readonly StateToken<unknown>[] | [], R>(
    tokens: T,
    mutate: (
      ...states: { -readonly [K in keyof T]: T[K] extends StateToken<infer S> ? S : never }
    ) => R | Promise<R>,
    options?: TurnOptions,
  ): Promise<R>;

  /**
   * Deletes every state of the ident, in a turn like any writer; inside an open turn of that ident it joins it.
   * Resolves with whether anything was stored. What was loaded before can not be committed afterwards.
   *
   * @throws what {@link modifyState} throws.
   */
  abstract deleteState(ident: string): Promise<boolean>;

  /**
   * Moves every state of an ident to another one, which must have none, in a turn over both; inside an open turn that has one
   * of them it joins it. Resolves with whether anything was stored.
   *
   * Guarantee: nobody sees the states under both idents or under neither, what was loaded before can be committed under
   * neither, and the old ident is fresh afterwards, also for those who wait for it. Inside a turn, drafts of it go on under
   * the new ident, and are stored with the move or not at all. Versions go on; watchers of the old ident are told `deleted`;
   * no hook is called, because nothing was made and nothing has gone.
   *
   * On a Redis Cluster the new ident is stored first and the old one deleted then: what fails in between leaves both, and
   * rejects with a {@link StateStoreUnavailableError}.
   *
   * @throws {StateError} `STATE_IDENT_IN_USE` when the new ident has states, is the old one, or the open turn has opened a
   * state of it: nothing is changed then; `STATE_NESTED_TURNS` as {@link modifyStates} does. @throws what
   * {@link modifyState} throws.
   */
  abstract renameState(ident: string, newIdent: string): Promise<boolean>;

  /**
   * Opens a turn that the caller ends. Prefer {@link modifyState}; whoever opens a turn must end it on every path
   * (`await using`). Only `modifyState` and handlers make later calls of their async context join; a second
   * `openTurn` for the ident waits for the first one to end.
   *
   * @throws what {@link modifyState} throws, except for what concerns the commit.
   */
  abstract openTurn(ident: string, options?: TurnOptions): Promise<StateTurn>;

  /**
   * Tells what is committed now, and from then on each change of the state: one for each commit, in the order of the
   * commits, whichever process makes them. Takes no lock and restarts no window. Ends with the unsubscription; completes at
   * shutdown.
   *
   * Guarantee: `version` grows by one with each commit; where commits went by unseen (a lost connection) the next change says
   * `resynced` and brings the state they have led to. When the state expires or is deleted, it is fresh again and its version
   * 0. Subscribers are called from the event loop, after the commit: one that is slow or throws keeps no lock and no other
   * from hearing of it (what it throws is logged, and it stays subscribed).
   *
   * Errors with {@link StateStoreUnavailableError} when the store is silent at the first look, and with
   * {@link StateManagerClosedError} after shutdown. Cost: nothing where nobody watches; in a group of commits under
   * `redis.leaseHold`, turns of an ident that is watched are stored at once.
   */
  abstract watch<T>(token: StateToken<T>): Observable<StateChange<T>>;

  /** What this process does right now. O(1). */
  abstract stats(): StateStats;

  /**
   * {@link stats}, and who is at it: the `limit` turns of this process that have held their locks longest, and the caller
   * that has waited longest. For health checks and people who look; a look at every lock that is held now.
   *
   * @param limit The most turns that are shown. @default 20
   */
  abstract inspect(limit?: number): StateInspection;

  /** How many idents have a stored state, over the whole store. Cost: O(1) in memory, a scan elsewhere. */
  abstract count(): Promise<number>;

  /**
   * What happens to states, as this process sees it: on a store that is shared, what its own turns do, and the expiry of
   * what it was the last to use. Hot, without a memory, and never an error: a subscriber that
   * throws is logged and stays subscribed. Completes at shutdown.
   */
  abstract readonly events$: Observable<StateEvent>;
}

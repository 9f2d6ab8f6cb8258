import { setMaxListeners } from 'node:events';
import { Logger, type OnModuleDestroy, type OnModuleInit } from '@nestjs/common';
import type { Immutable } from 'immer';
import type { Observable } from 'rxjs';
import type { Clock } from '../internal/clock.js';
import { DeadlineQueue } from '../internal/deadline-queue.js';
import { DeadlineWorker } from '../internal/deadline-worker.js';
import { parseDurationMs } from '../internal/duration.js';
import { assertIdent, hashIdent } from '../internal/ident.js';
import { KeyedMutex, type WaitOutcome } from '../internal/keyed-mutex.js';
import { stateFields } from '../internal/state-fields.js';
import type { Snapshot } from '../internal/state-draft.js';
import type { StateDefinition } from '../internal/state-definition.js';
import {
  InvalidStateOptionsError,
  StateManagerClosedError,
  StateStoreUnavailableError,
  type LockExpiredError,
  type StateError,
} from '../state.errors.js';
import type { ResolvedStateOptions } from '../state.options.js';
import type { StateToken } from '../state.token.js';
import { StateTelemetry } from '../telemetry/state-telemetry.js';
import { JoinedTurn } from './joined-turn.js';
import { lockExpired, lockTimeout, tooManyWaiters } from './lock-errors.js';
import { ManagedTurn, type PreparedTurn, type TurnChanges, type TurnHost } from './managed-turn.js';
import { renameStates, type StateMove } from './renamed-states.js';
import { SeveralTurns, type SeveralTurnsHost } from './several-turns.js';
import { SlowTurnWarnings } from './slow-turn-warnings.js';
import type { StateCensus } from './state-census.js';
import { StateEventSource } from './state-event-stream.js';
import { StateHooks, type StateHook } from './state-hooks.js';
import {
  StateManager,
  type StateEvent,
  type StateEventType,
  type StateStats,
  type StateTurn,
  type TurnOptions,
} from './state.manager.js';
import { longestTurns, oldestWaiter, type StateInspection } from './state-inspection.js';
import { surviving } from './turn-result.js';
import { enclosingFrame, findOpenTurn, runInFrame } from './turn-scope.js';
import type { StateChange } from './watch/state-change.js';
import { StateWatches } from './watch/state-watches.js';
import type { WatchedState } from './watch/watched-state.js';

/** How many turns an inspection shows. */
const INSPECTED_TURNS = 20;

type Lifecycle = 'open' | 'draining' | 'closed';

/**
 * What all managers share: turns, waiting, joining, the lease, draining. What is left to each is where the states are.
 */
export abstract class LockingStateManager
  extends StateManager
  implements TurnHost, SeveralTurnsHost, OnModuleInit, OnModuleDestroy
{
  override readonly events$: Observable<StateEvent>;

  protected readonly logger = new Logger(StateManager.name);
  protected readonly mutex: KeyedMutex;
  protected readonly watches: StateWatches;
  protected readonly hooks: StateHooks;
  protected lifecycle: Lifecycle = 'open';

  private readonly events: StateEventSource<StateEvent>;
  private readonly leases = new DeadlineQueue<ManagedTurn>();
  private readonly leaseWorker: DeadlineWorker<ManagedTurn>;
  private readonly slowTurns: SlowTurnWarnings;
  /** How many turns hold their lock. */
  protected openTurns = 0;
  private readonly preparations: (() => void)[] = [];
  private closing: Promise<void> | undefined;
  private onIdle: (() => void) | undefined;
  /** Events that wait until everything is written that is written together. */
  private heldBack: StateEvent[] | undefined;
  /** Who tells OpenTelemetry of the turns, where an SDK listens. */
  private telemetry: StateTelemetry | undefined = undefined;

  constructor(
    protected readonly options: ResolvedStateOptions,
    protected readonly clock: Clock,
  ) {
    super();
    this.mutex = new KeyedMutex(clock);
    this.hooks = new StateHooks(clock, this.logger);
    this.slowTurns = new SlowTurnWarnings(options.lockWarningThresholdMs, this.logger);
    this.events = new StateEventSource((error) =>
      this.logger.error('A subscriber of StateManager.events$ threw.', error),
    );
    this.events$ = this.events.stream;
    this.watches = new StateWatches({
      watched: (ident, state) => this.stateWatched(ident, state),
      joined: (state) => this.watchJoined(state),
      unwatched: (ident, state) => this.stateUnwatched(ident, state),
      assertReadable: () => this.assertReadable(),
      onError: (error) => this.logger.error('A subscriber of StateManager.watch() threw.', error),
    });
    this.leaseWorker = new DeadlineWorker(this.leases, {
      clock,
      onDue: (turn) => this.expireLock(turn),
      onError: (error) => this.logger.error('Ending an overdue turn failed.', error),
    });
    this.leaseWorker.start();
  }

  async onModuleInit(): Promise<void> {
    for (const prepare of this.preparations) prepare();
    await this.openStore();
    const { mode, telemetry } = this.options;
    if (telemetry) this.telemetry = await StateTelemetry.open(mode, () => this.stats());
  }

  async onModuleDestroy(): Promise<void> {
    await (this.closing ??= this.close());
  }

  abstract override getState<T>(token: StateToken<T>): Promise<Immutable<T>>;
  abstract override count(): Promise<number>;
  abstract override stats(): StateStats;
  /**
   * Counts the stored states by their class, and looks at the sizes of those of about `limit` idents. Restarts no window.
   *
   * @internal For looking at it from outside. Bounded: on a server a part is looked at, in this process it takes slices.
   */
  abstract takeCensus(limit: number): Promise<StateCensus>;

  override async setState<T>(token: StateToken<T>, state: T): Promise<void> {
    const { definition } = token;
    const fields = stateFields(definition, state);
    const turn = await this.begin(token.ident, { label: `${definition.name} (setState)` });
    try {
      turn.replace(definition, fields);
    } catch (error) {
      turn.abandon(error);
      await turn.whenReleased();
      throw error;
    }
    turn.prepare(undefined);
    await turn.store();
  }

  override async modifyState<T, R>(
    token: StateToken<T>,
    mutate: (state: T, turn: StateTurn) => R | Promise<R>,
    options?: TurnOptions,
  ): Promise<R> {
    const begun = this.begin(token.ident, options, token.definition.name);
    const turn = begun instanceof Promise ? await begun : begun;
    let result: R;
    try {
      const draft = turn.draft(token.definition) as T;
      const outer = enclosingFrame();
      const open = turn instanceof ManagedTurn ? turn : turn.outer;
      // A turn that is joined across one of another ident is the innermost one again, until `mutate` returns.
      const returned =
        outer?.turn === open && open.companions === undefined
          ? mutate(draft, turn)
          : runInFrame({ turn: open, outer, injected: undefined, request: undefined }, mutate, draft, turn);
      result = isThenable(returned) ? await returned : returned;
    } catch (error) {
      // Inside of another turn drafts live on.
      const failure = turn instanceof ManagedTurn ? surviving(error) : error;
      turn.abandon(failure);
      const released = turn.whenReleased();
      if (released !== undefined) await released;
      throw failure;
    }
    // `mutate` may have ended its turn itself, to do slow work without the lock or to change nothing after all.
    if (!turn.isRunning) return result;
    const settled = turn.prepare(result);
    const storing = turn.store();
    // A promise that is returned costs two more than one that is awaited.
    if (storing !== undefined) await storing;
    return settled;
  }

  override async modifyStates<T extends readonly StateToken<unknown>[] | [], R>(
    tokens: T,
    mutate: (
      ...states: { -readonly [K in keyof T]: T[K] extends StateToken<infer S> ? S : never }
    ) => R | Promise<R>,
    options?: TurnOptions,
  ): Promise<R> {
    options?.signal?.throwIfAborted();
    const named: readonly StateToken<unknown>[] = [...tokens];
    if (named.length === 0 && this.lifecycle !== 'open') throw new StateManagerClosedError();
    const turns = await SeveralTurns.open(this, named, options?.label, {
      timeoutMs: this.acquireTimeoutMs(options),
      startMs: this.clock.nowMs(),
      signal: options?.signal,
    });
    let result: R;
    try {
      const drafts = named.map((token) => turns.draft(token));
      result = await turns.run(() => (mutate as (...states: object[]) => R | Promise<R>)(...drafts));
    } catch (error) {
      const failure = turns.isJoined ? error : surviving(error);
      await turns.abandon(failure);
      throw failure;
    }
    return turns.settle(result);
  }

  override deleteState(ident: string): Promise<boolean> {
    return this.deleteStates(ident);
  }

  /** @internal {@link deleteState}, for who wants to know when it is stored: `onEnd` must not throw. */
  async deleteStates(ident: string, onEnd?: (isStored: boolean) => void): Promise<boolean> {
    const turn = await this.begin(ident, { label: 'deleteState' });
    let existed: boolean;
    try {
      existed = turn.deleteAll();
    } catch (error) {
      turn.abandon(error);
      await turn.whenReleased();
      throw error;
    }
    if (onEnd !== undefined) {
      const open = turn instanceof ManagedTurn ? turn : turn.outer;
      (open.leader ?? open).whenEnded(onEnd);
    }
    turn.prepare(undefined);
    await turn.store();
    return existed;
  }

  override renameState(ident: string, newIdent: string): Promise<boolean> {
    return this.moveStates({ from: ident, to: newIdent });
  }

  /** @internal {@link renameState}, for who wants to know when it is stored. */
  async moveStates(move: StateMove): Promise<boolean> {
    assertIdent(move.from);
    assertIdent(move.to);
    const { clock, options } = this;
    return renameStates(this, move, {
      timeoutMs: options.acquireTimeoutMs,
      startMs: clock.nowMs(),
      signal: undefined,
    });
  }

  override async openTurn(ident: string, options?: TurnOptions): Promise<StateTurn> {
    return this.begin(ident, options);
  }

  override inspect(limit = INSPECTED_TURNS): StateInspection {
    const nowMs = this.clock.nowMs();
    const turns = longestTurns(this.leases, this.mutex, nowMs, limit);
    const waiter = oldestWaiter(this.mutex, nowMs);
    const first = this.leases.first;
    return {
      ...this.stats(),
      turns,
      longestHoldMs: first === undefined ? 0 : nowMs - first.openedAtMs,
      oldestWaiter: waiter,
      oldestWaitMs: waiter?.waitedMs ?? 0,
    };
  }

  override watch<T>(token: StateToken<T>): Observable<StateChange<T>> {
    return this.watches.watch(token);
  }

  abstract readState(turn: ManagedTurn, definition: StateDefinition): Snapshot | undefined;
  abstract hasStates(turn: ManagedTurn): boolean;

  abstract writeStates(turn: ManagedTurn, changes: TurnChanges): void | Promise<void>;

  writeTogether(turns: readonly PreparedTurn[]): void | Promise<void> {
    // Nobody is to see one of the states before all of them are there: events, whose listeners may look, come last.
    const events = (this.heldBack = [] as StateEvent[]);
    try {
      // Whose states have been moved goes first: they are on the way to the other one then.
      for (const { turn, changes } of turns)
        if (changes.to !== undefined) void this.writeStates(turn, changes);
      for (const { turn, changes } of turns)
        if (changes.to === undefined) void this.writeStates(turn, changes);
    } finally {
      this.heldBack = undefined;
      for (const event of events) this.events.emit(event);
    }
  }

  /** A manager whose locks are all in this process has freed them in the same tick. */
  whenReleased(_turn: ManagedTurn): Promise<void> | undefined {
    return undefined;
  }

  assertHeld(turn: ManagedTurn): void {
    // The timer of the lease cannot fire while the event loop is blocked, the deadline passes all the same.
    if (this.clock.nowMs() >= turn.deadlineMs) throw this.expireLock(turn);
  }

  releaseTurn(turn: ManagedTurn): void {
    this.leases.remove(turn);
    this.openTurns -= 1;
    const nowMs = this.clock.nowMs();
    this.releaseLock(turn, nowMs);
    if (this.telemetry !== undefined) this.telemetry.ended(turn, nowMs);
    // Last, as everything that is said: a logger that throws must not keep a lock.
    this.slowTurns.check(turn, nowMs - turn.openedAtMs);
  }

  /** Makes the store ready. Called once, before the application listens. */
  protected abstract openStore(): Promise<void>;
  /** Called last, when no turn is open any more. */
  protected abstract closeStore(): Promise<void>;
  /**
   * Makes the lock that `turn` has in this process one of the whole store, where that takes no waiting, else does
   * nothing and returns false. `nowMs` is the time by the manager's clock.
   */
  protected abstract trySecure(turn: ManagedTurn, nowMs: number): boolean;
  /**
   * Settles when {@link trySecure}, which has returned false, is to be called again: with false when the lock is not free
   * and cannot be waited for. Rejects when waiting for it has come to an end.
   */
  protected abstract whenSecurable(turn: ManagedTurn, wait: LockWait): Promise<unknown>;
  /**
   * The string that is kept of `ident`, where there is one. The ident of each request is a new string, and V8 looks for it
   * among all names of the program each time it is the key of an object: what is kept has been found before.
   */
  protected knownIdent(ident: string): string {
    return ident;
  }
  /** How many callers wait for `ident` elsewhere than in the queue of this process: none, or the first of them. */
  protected waitingOutside(_ident: string): number {
    return 0;
  }
  /** Called when `turn` gave up its lock in this process; somebody else may hold it by now. */
  protected abstract lockReleased(turn: ManagedTurn, nowMs: number): void;
  /** Somebody begins to watch `state`, of `ident`: it is to be shown what is stored, and what becomes of it. */
  protected abstract stateWatched(ident: string, state: WatchedState): void;
  /** Somebody else watches it as well. */
  protected watchJoined(state: WatchedState): void {
    // Where commits are seen as they are made it is up to date.
    state.greet();
  }
  /** Nobody watches it any more. */
  protected stateUnwatched(_ident: string, _state: WatchedState): void {
    // Nothing was kept for it where commits are seen anyway.
  }
  /** Called when shutdown begins: whoever waits in {@link whenSecurable} is to be sent away. */
  protected cancelSecuring(): void {
    // Nothing to cancel where nobody waits there.
  }

  /** Whether anybody is told of events: what is only kept for events need not be kept otherwise. */
  protected get isObserved(): boolean {
    return this.events.observed || this.telemetry !== undefined;
  }

  protected emit(type: StateEventType, ident: string, states: readonly string[]): void {
    // The hash costs more than a turn: nobody pays for it unless somebody listens.
    if (this.events.observed) this.emitOf(type, hashIdent(ident), states);
    else this.telemetry?.happened(type, states);
  }

  protected emitOf(type: StateEventType, identHash: string, states: readonly string[]): void {
    this.telemetry?.happened(type, states);
    this.say({ type, identHash, states });
  }

  /** Says that the states of `ident` are those of `newIdent` from now on. */
  protected emitRenamed(ident: string, newIdent: string, states: readonly string[]): void {
    if (!this.events.observed) return;
    this.say({ type: 'renamed', identHash: hashIdent(ident), newIdentHash: hashIdent(newIdent), states });
  }

  private say(event: StateEvent): void {
    if (this.heldBack === undefined) this.events.emit(event);
    else this.heldBack.push(event);
  }

  /** Stops the timer of the leases, for when no turn is open: the next turn starts it again. */
  protected restLeases(): void {
    this.leaseWorker.rest();
  }

  /** @throws {StateManagerClosedError} after shutdown. */
  protected assertReadable(): void {
    if (this.lifecycle === 'closed') throw new StateManagerClosedError();
  }

  /**
   * Lets a method be called for what happens to the states of a class, from now on.
   *
   * @internal What `@OnState()` becomes.
   * @throws {InvalidStateTokenError} when that is no state class.
   */
  addHook(hook: StateHook): void {
    this.hooks.add(hook);
  }

  /**
   * Asks the store for a sign of life, where it is not a part of this process.
   *
   * @internal For health checks.
   * @throws {StateStoreUnavailableError} when there is none. @throws {StateManagerClosedError} after shutdown.
   */
  async reachStore(): Promise<void> {
    this.assertReadable();
  }

  /**
   * Calls `prepare` when all of the application has been made and nothing has been connected yet; if it throws, the
   * application does not start, and leaves nothing open.
   *
   * @internal
   */
  beforeOpening(prepare: () => void): void {
    this.preparations.push(prepare);
  }

  /**
   * {@link openTurn} where that takes no waiting, else `undefined`. Never joins, takes no signal. For handlers, which have
   * looked at `ident` when they found it.
   */
  tryOpenTurn(ident: string, label: string): ManagedTurn | undefined {
    if (this.lifecycle !== 'open') throw new StateManagerClosedError();
    const turn = new ManagedTurn(this, this.knownIdent(ident), label, undefined);
    return this.tryEnter(turn) ? turn : undefined;
  }

  /** Opens a turn, or joins the open one of this async context. */
  private begin(ident: string, options?: TurnOptions, label?: string): LocalTurn | Promise<LocalTurn> {
    options?.signal?.throwIfAborted();
    const timeoutMs = this.acquireTimeoutMs(options);
    const outer = findOpenTurn(this, ident);
    if (outer !== undefined) return new JoinedTurn(outer, options?.signal);
    const turn = this.createTurn(ident, options?.label ?? label, options?.signal);
    return this.enterOrWait(turn, timeoutMs, undefined, options?.signal);
  }

  /** @internal */
  openAlone(
    ident: string,
    label: string | undefined,
    wait: LockWait,
    ownSignal: AbortSignal | undefined,
  ): ManagedTurn | Promise<ManagedTurn> {
    const turn = this.createTurn(ident, label, ownSignal);
    return this.enterOrWait(turn, wait.timeoutMs, wait.startMs, wait.signal);
  }

  /** @internal */
  during<T>(event: Promise<T>, { timeoutMs, startMs, signal }: LockWait, late: () => Error): Promise<T> {
    return this.inTime(event, signal, timeoutMs - (this.clock.nowMs() - startMs), late);
  }

  /** Waits for `event`, for `leftMs` at most and until the signal: then it rejects with what `late` returns, or its reason. */
  protected inTime<T>(
    event: Promise<T>,
    signal: AbortSignal | undefined,
    leftMs: number,
    late: () => Error,
  ): Promise<T> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted === true) {
        reject(signal.reason);
        return;
      }
      const abort = (): void => leave(signal?.reason);
      const expire = (): void => leave(late());
      const timer = leftMs === Infinity ? undefined : this.clock.startTimer(expire, leftMs, 'awaited');
      const stop = (): void => {
        timer?.cancel();
        signal?.removeEventListener('abort', abort);
      };
      const leave = (error: unknown): void => {
        stop();
        reject(error);
      };
      // As for a wait in this process: many who wait with one signal are no leak.
      if (signal !== undefined) setMaxListeners(0, signal);
      signal?.addEventListener('abort', abort, { once: true });
      event.finally(stop).then(resolve, reject);
    });
  }

  /** Ends a turn whose lock is gone before its time, and says so. */
  protected loseLock(turn: ManagedTurn, error: StateError): void {
    turn.lose(error);
    this.sayLost(turn, error);
  }

  /** Says that `turn` is not stored because its lock is gone. */
  protected sayLost(turn: ManagedTurn, error: StateError): void {
    const { ident } = turn;
    if (this.hooks.has('lock-lost')) {
      // A state that was deleted and made anew is there twice: it began as what is there first.
      const begun = new Map<StateDefinition, Snapshot>();
      for (const { definition, base } of turn.usedStates)
        if (!begun.has(definition)) begun.set(definition, base);
      for (const [definition, base] of begun) this.hooks.announceState('lock-lost', definition, ident, base);
    }
    this.logger.warn(`${error.message} Nothing of the turn is stored (ident #${hashIdent(ident)}).`);
    this.emit('lock-lost', ident, []);
  }

  private createTurn(ident: string, label: string | undefined, signal?: AbortSignal): ManagedTurn {
    if (this.lifecycle !== 'open') throw new StateManagerClosedError();
    assertIdent(ident);
    return new ManagedTurn(this, ident, label, signal);
  }

  private tryEnter(turn: ManagedTurn): boolean {
    if (!this.mutex.tryAcquire(turn.ident, turn)) return false;
    const nowMs = this.clock.nowMs();
    if (this.trySecure(turn, nowMs)) {
      this.enter(turn, nowMs);
      return true;
    }
    this.mutex.release(turn.ident, turn);
    return false;
  }

  private enterOrWait(
    turn: ManagedTurn,
    timeoutMs: number,
    since: number | undefined,
    signal: AbortSignal | undefined,
  ): ManagedTurn | Promise<ManagedTurn> {
    const isFree = this.mutex.tryAcquire(turn.ident, turn);
    const nowMs = this.clock.nowMs();
    if (isFree && this.trySecure(turn, nowMs)) {
      this.enter(turn, nowMs);
      return turn;
    }
    const waiting = this.wait(turn, isFree, { timeoutMs, startMs: since ?? nowMs, signal });
    return this.telemetry?.follow(turn, waiting, () => this.clock.nowMs()) ?? waiting;
  }

  private async wait(turn: ManagedTurn, isFree: boolean, wait: LockWait): Promise<ManagedTurn> {
    const { ident } = turn;
    const { signal } = wait;
    turn.waitsSinceMs = this.clock.nowMs();
    if (!isFree) {
      const outcome = await this.queue(turn, wait);
      if (outcome === 'cancelled') throw new StateManagerClosedError();
      if (outcome === 'aborted') throw signal?.reason;
      if (outcome === 'timed-out') throw lockTimeout(turn, wait.timeoutMs, this.holderOf(ident));
    }
    try {
      // One that was free has been tried.
      let isSecure = !isFree && this.trySecure(turn, this.clock.nowMs());
      while (!isSecure) {
        // Whoever comes to wait when all who waited have been sent away would wait for the end of the drain.
        if (this.lifecycle !== 'open') throw new StateManagerClosedError();
        if ((await this.whenSecurable(turn, wait)) === false) throw this.refused(turn, wait);
        isSecure = this.trySecure(turn, this.clock.nowMs());
      }
    } catch (error) {
      // The store answers nobody: those who queue behind would only wait for the same, one after the other.
      if (error instanceof StateStoreUnavailableError) this.mutex.failWaiters(ident, error);
      this.releaseLock(turn, this.clock.nowMs());
      throw error;
    }
    this.enter(turn, this.clock.nowMs());
    // The lock was handed over in an earlier tick; since then the caller may have given up, or the module be closing.
    try {
      signal?.throwIfAborted();
      if (this.lifecycle !== 'open') throw new StateManagerClosedError();
    } catch (error) {
      turn.abandon();
      throw error;
    }
    return turn;
  }

  private queue(turn: ManagedTurn, { timeoutMs, startMs, signal }: LockWait): Promise<WaitOutcome> {
    const { ident } = turn;
    const { maxWaiters } = this.options;
    const waiting = this.mutex.waitingFor(ident) + this.waitingOutside(ident);
    if (waiting >= maxWaiters) throw tooManyWaiters(turn, maxWaiters);
    const leftMs = timeoutMs - (this.clock.nowMs() - startMs);
    return this.mutex.wait(ident, turn, { timeoutMs: leftMs, signal });
  }

  private refused(turn: ManagedTurn, { timeoutMs }: LockWait): StateError {
    if (this.lifecycle !== 'open') return new StateManagerClosedError();
    const { maxWaiters } = this.options;
    return timeoutMs > 0
      ? tooManyWaiters(turn, maxWaiters)
      : lockTimeout(turn, timeoutMs, 'held by another process');
  }

  private enter(turn: ManagedTurn, nowMs: number): void {
    turn.openedAtMs = nowMs;
    this.openTurns += 1;
    if (this.telemetry !== undefined) turn.context ??= this.telemetry.context();
    this.leases.push(turn, nowMs + this.options.maxHoldMs);
    this.leaseWorker.wakeInTime();
  }

  private releaseLock(turn: ManagedTurn, nowMs: number): void {
    this.mutex.release(turn.ident, turn);
    this.lockReleased(turn, nowMs);
    if (this.onIdle !== undefined && this.mutex.held === 0) this.onIdle();
  }

  private holderOf(ident: string): string {
    const owner = this.mutex.ownerOf(ident);
    if (!(owner instanceof ManagedTurn)) return 'free by now';
    // The first of this process may still be asking the store for it.
    if (owner.openedAtMs === 0) return `being taken by ${owner.description}`;
    return `held by ${owner.description} for ${Math.round(this.clock.nowMs() - owner.openedAtMs)} ms`;
  }

  private acquireTimeoutMs(options: TurnOptions | undefined): number {
    if (options?.acquireTimeout === undefined) return this.options.acquireTimeoutMs;
    const timeoutMs = parseDurationMs(options.acquireTimeout);
    if (timeoutMs !== undefined) return timeoutMs;
    throw new InvalidStateOptionsError([
      `acquireTimeout: ${JSON.stringify(options.acquireTimeout)} is not a duration.`,
    ]);
  }

  private expireLock(turn: ManagedTurn): LockExpiredError {
    const error = lockExpired(turn, this.options.maxHoldMs);
    this.loseLock(turn, error);
    return error;
  }

  private async close(): Promise<void> {
    this.lifecycle = 'draining';
    this.mutex.cancelWaiters();
    this.cancelSecuring();
    const endMs = this.clock.nowMs() + this.options.drainTimeoutMs;
    if (this.mutex.held > 0) await this.drained();
    // While the store is open, so that they can still read.
    await this.hooks.settle(endMs - this.clock.nowMs());
    this.lifecycle = 'closed';
    const unfinished: string[] = [];
    for (let turn = this.leases.first; turn !== undefined; turn = this.leases.first) {
      unfinished.push(turn.description);
      try {
        turn.lose(new StateManagerClosedError());
      } catch {
        // Its lock is free. It is the logger of the application that has failed: the rest has to be closed all the same.
      }
    }
    this.leaseWorker.stop();
    await this.closeStore();
    // What came of closing: a commit that was under way, a lock that turned out to be lost.
    await this.hooks.settle(endMs - this.clock.nowMs());
    const unfinishedHooks = this.hooks.stop();
    this.watches.complete();
    this.events.complete();
    this.telemetry?.stop();
    try {
      this.sayUnfinished(unfinished, unfinishedHooks);
    } catch {
      // The application has more to close than this.
    }
  }

  private sayUnfinished(turns: readonly string[], hooks: number): void {
    const { drainTimeoutMs } = this.options;
    for (const description of turns)
      this.logger.warn(
        `Closed: ${description} was still running after ${drainTimeoutMs} ms and cannot be stored.`,
      );
    if (hooks > 0)
      this.logger.warn(`Closed: ${hooks} calls of hooks were not over after ${drainTimeoutMs} ms.`);
  }

  private drained(): Promise<void> {
    return new Promise((resolve) => {
      const timer = this.clock.startTimer(resolve, this.options.drainTimeoutMs, 'awaited');
      this.onIdle = () => {
        timer.cancel();
        resolve();
      };
    });
  }
}

/** How long, and how, a caller waits for a lock. */
export interface LockWait {
  /** Longest wait in milliseconds, counted from `startMs`. */
  readonly timeoutMs: number;
  /** When the wait began, by the manager's clock. */
  readonly startMs: number;
  /** Aborting it ends the wait. */
  readonly signal: AbortSignal | undefined;
}

type LocalTurn = ManagedTurn | JoinedTurn;

function isThenable<R>(value: R | Promise<R>): value is Promise<R> {
  return typeof (value as { then?: unknown } | null | undefined)?.then === 'function';
}

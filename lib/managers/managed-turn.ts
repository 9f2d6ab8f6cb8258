import type { Type } from '@nestjs/common';
import type { DeadlineNode } from '../internal/deadline-queue.js';
import { freshSnapshot, StateDraft, type Snapshot } from '../internal/state-draft.js';
import type { StateDefinition } from '../internal/state-definition.js';
import { hashIdent } from '../internal/ident.js';
import { STATE_ERROR_CODES, StateError } from '../state.errors.js';
import { requireDefinition } from '../state.token.js';
import type { StateTurn } from './state.manager.js';
import { detach, type FinishedDraft } from './turn-result.js';

/** What a committing turn asks its manager to store. */
export interface TurnChanges {
  /** Everything stored for the ident goes first. */
  readonly deleteAll: boolean;
  /** The states that have changed. */
  readonly changed: readonly FinishedDraft[];
  /** Whose stored states this one has now, below what has changed. That turn is committed together with this one. */
  readonly from: ManagedTurn | undefined;
  /** Who has the states now that are stored for this one. */
  readonly to: ManagedTurn | undefined;
}

/** Locks that are being added to an open turn. */
export interface TurnAddition {
  readonly idents: readonly string[];
  /** Settles when they are added, or not to be had. Never rejects. */
  readonly done: Promise<unknown>;
}

/** A turn whose code has ended, and what it asks its manager to store. */
export interface PreparedTurn {
  readonly turn: ManagedTurn;
  readonly changes: TurnChanges;
}

/** What a turn needs of the manager that opened it. */
export interface TurnHost {
  /** What is stored for the ident of `turn`, as a state of that definition. The lock is held. */
  readState(turn: ManagedTurn, definition: StateDefinition): Snapshot | undefined;
  /** Whether anything is stored for the ident of `turn`. The lock is held. */
  hasStates(turn: ManagedTurn): boolean;
  /** @throws {LockExpiredError} when `turn` has held its lock for too long, whether or not a timer has fired. */
  assertHeld(turn: ManagedTurn): void;
  /**
   * Stores the changes, or throws and stores nothing. The lock is held. Where that takes an answer of a server, the
   * promise settles with it; the turn gives its lock up at once all the same, and it is for the host to keep order.
   */
  writeStates(turn: ManagedTurn, changes: TurnChanges): void | Promise<void>;
  /** {@link writeStates} for turns of several idents: stores what all of them have changed, or nothing of it. */
  writeTogether(turns: readonly PreparedTurn[]): void | Promise<void>;
  /** Frees the lock of `turn` if it still holds it. Called once, however the turn ended. */
  releaseTurn(turn: ManagedTurn): void;
  /** When nobody has to wait any more for what `turn` gave up; `undefined` when that is now. Never rejects. */
  whenReleased(turn: ManagedTurn): Promise<void> | undefined;
}

type TurnStatus = 'open' | 'committed' | 'rolled-back' | 'lost';

const NONE: readonly never[] = [];

/**
 * The turn of every manager: drafts, commit, rollback, loss of the lock.
 *
 * Guarantee: whatever ends it, the lock is released exactly once. Cost: nothing is created before it is used; a turn
 * that nobody watches has no abort controller and no timer of its own, and where the store needs no time it creates no
 * promise.
 */
export class ManagedTurn implements StateTurn, DeadlineNode {
  // Where it stands in the manager's queue of leases.
  previous: DeadlineNode | undefined = undefined;
  next: DeadlineNode | undefined = undefined;
  deadlineMs = 0;
  /** When it got the lock, by the manager's clock. */
  openedAtMs = 0;
  /** Since when it waited, or has waited, for its lock; `undefined` where it was free. */
  waitsSinceMs: number | undefined = undefined;
  /** Where its span belongs, if it is to have one. */
  context: object | undefined = undefined;
  /** What its manager keeps with it while it has the lock. */
  held: object | undefined = undefined;
  /** Turns of other idents that end when and as this one does: what they change is stored with it. */
  companions: readonly ManagedTurn[] | undefined = undefined;
  /** The turn that this one is a companion of. */
  leader: ManagedTurn | undefined = undefined;
  /** Companions that are waited for. */
  addition: TurnAddition | undefined = undefined;
  /** The turn that its drafts, and what it began from, have been moved to. */
  successor: ManagedTurn | undefined = undefined;

  private status: TurnStatus = 'open';
  private drafts: readonly StateDraft[] = NONE;
  /** Whose stored states it begins from: its own, until they are deleted or moved. */
  private base: ManagedTurn | undefined = this;
  /** Who has its stored states now. */
  private heir: ManagedTurn | undefined;
  private checks: (() => void)[] | undefined;
  private endings: ((isStored: boolean) => void)[] | undefined;
  private deleted: readonly StateDraft[] | undefined;
  private failure: unknown;
  private hasFailed = false;
  private changes: TurnChanges | undefined;
  private storing: Promise<void> | undefined;
  private controller: AbortController | undefined;
  private onCallerAbort: (() => void) | undefined;

  constructor(
    readonly host: TurnHost,
    readonly ident: string,
    private readonly label: string | undefined,
    private readonly callerSignal: AbortSignal | undefined,
  ) {}

  /** False once it has been committed or rolled back. A turn that lost its lock is still running. */
  get isRunning(): boolean {
    return this.status === 'open' || this.status === 'lost';
  }

  /** What has become of it. */
  get outcome(): TurnStatus {
    return this.status;
  }

  /** Settles when the store has answered its commit, where it needs an answer of the store. */
  get answer(): Promise<void> | undefined {
    return (this.leader ?? this).storing;
  }

  get signal(): AbortSignal {
    if (this.controller === undefined) {
      this.controller = new AbortController();
      if (this.status === 'lost') this.controller.abort(this.failure);
      const { callerSignal, controller } = this;
      if (callerSignal?.aborted) controller.abort(callerSignal.reason);
      else if (callerSignal !== undefined && this.isRunning) {
        this.onCallerAbort = () => controller.abort(callerSignal.reason);
        callerSignal.addEventListener('abort', this.onCallerAbort, { once: true });
      }
    }
    return this.controller.signal;
  }

  /** For messages: the states in use and who uses them. Never the ident. */
  get description(): string {
    const names = this.drafts.map(({ definition }) => definition.name).join(', ');
    if (this.label === undefined) return names || 'a state';
    return names === '' || names === this.label ? this.label : `${names} (${this.label})`;
  }

  /** Who opened it, for warnings that are counted by it. */
  get handler(): string {
    return this.label ?? this.description;
  }

  async state<T>(cls: Type<T>): Promise<T> {
    return this.draft(requireDefinition(cls)) as T;
  }

  isNew(cls: Type<unknown>): boolean {
    this.assertOpen();
    return this.host.readState(this.base ?? this, requireDefinition(cls)) === undefined;
  }

  async commit(): Promise<void> {
    if (this.status === 'committed') return this.storing;
    this.prepare(undefined);
    return this.store();
  }

  async rollback(): Promise<void> {
    if (!this.isRunning) return undefined;
    this.abandon();
    return this.whenReleased();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.rollback();
  }

  /** When nobody has to wait any more for the lock of this turn, which has ended. Never rejects. */
  whenReleased(): Promise<void> | undefined {
    const { companions } = this;
    return companions === undefined
      ? this.host.whenReleased(this)
      : allReleased([this.host.whenReleased(this), ...companions.map((turn) => turn.whenReleased())]);
  }

  /** From now on `turns` are {@link companions}. For turns of its host, and none that has companions. */
  lead(turns: readonly ManagedTurn[]): void {
    this.companions = [...(this.companions ?? []), ...turns];
    for (const turn of turns) turn.leader = this;
  }

  /** {@link state}, at once. */
  draft(definition: StateDefinition): object {
    return this.open(definition).value;
  }

  /** The states it has used, also after it. */
  get usedStates(): readonly StateDraft[] {
    const own = this.deleted === undefined ? this.drafts : [...this.deleted, ...this.drafts];
    return this.successor === undefined ? own : [...own, ...this.successor.usedStates];
  }

  /** Everything of it has been moved on. */
  get isVacated(): boolean {
    return this.successor !== undefined && this.drafts.length === 0;
  }

  /** Whether it has a draft of that state already. */
  uses(definition: StateDefinition): boolean {
    return this.drafts.some((draft) => draft.definition === definition);
  }

  /** Replaces all fields of a state. `fields` must not be used afterwards. */
  replace(definition: StateDefinition, fields: object): void {
    this.open(definition).replace(fields);
  }

  /**
   * Lets the commit delete whatever is stored; drafts handed out before lead nowhere from now on. True if anything
   * is stored.
   */
  deleteAll(): boolean {
    this.assertOpen();
    const existed = this.hasStates;
    if (this.base !== undefined) this.base.heir = undefined;
    this.base = undefined;
    this.deleted = [...(this.deleted ?? []), ...this.drafts];
    this.drafts = NONE;
    return existed;
  }

  /**
   * Moves the states to `heir`, a turn that is committed together with this one: drafts go on there, and this one begins
   * afresh. True if anything is stored.
   *
   * @throws {StateError} `STATE_IDENT_IN_USE` when `heir` has states of its own, had some when it began, or has a draft.
   */
  moveTo(heir: ManagedTurn): boolean {
    this.assertOpen();
    heir.assertOpen();
    const obstacle = heir === this ? 'the new ident is the old one' : heir.occupation;
    if (obstacle !== undefined)
      throw new StateError(
        STATE_ERROR_CODES.identInUse,
        `The states of ident #${hashIdent(this.ident)} were not moved: ${obstacle}.`,
      );
    const existed = this.hasStates;
    heir.base = this.base ?? heir;
    if (this.base !== undefined) this.base.heir = heir;
    heir.drafts = this.drafts;
    this.base = undefined;
    this.drafts = NONE;
    this.successor = heir;
    return existed;
  }

  /** Calls `check` before the turn is stored: what it throws keeps it from being committed. */
  beforeCommit(check: () => void): void {
    (this.checks ??= []).push(check);
  }

  /** Calls `ending` when it is known whether the turn is stored, before anybody else is told. */
  whenEnded(ending: (isStored: boolean) => void): void {
    (this.endings ??= []).push(ending);
  }

  /** Whether it begins from anything that is stored. */
  private get hasStates(): boolean {
    return this.base !== undefined && this.host.hasStates(this.base);
  }

  /** What keeps states of another ident from being moved here. */
  private get occupation(): string | undefined {
    if (this.base !== this) return 'the same turn has deleted or moved the states of the new ident';
    if (this.host.hasStates(this)) return 'the new ident has states of its own';
    // It is in the hands of code that may go on to change it, and there would be two of them.
    return this.drafts.length > 0 ? 'the same turn has opened a state of the new ident' : undefined;
  }

  /** Makes the commit fail with `error`: a joined turn failed, and half of its changes may be in the drafts. */
  doom(error: unknown): void {
    if (this.hasFailed || this.status !== 'open') return;
    this.failure = error;
    this.hasFailed = true;
  }

  /**
   * The first half of {@link commit}: everything that can fail before the store is asked. Ends the turn if it does.
   * Returns what `result` is to the caller now that the drafts are dead.
   */
  prepare<R>(result: R): R {
    const { companions } = this;
    if (companions === undefined) return this.prepareAlone(result, false) as R;
    try {
      let settled = this.prepareAlone(result, true);
      for (const turn of companions) settled = turn.prepareAlone(settled, true);
      return settled as R;
    } catch (error) {
      this.abandon();
      throw error;
    }
  }

  /** @param alongside Drafts of other turns are alive and may stand in the states or the result of this one. */
  private prepareAlone(result: unknown, alongside: boolean): unknown {
    try {
      this.assertOpen();
      this.host.assertHeld(this);
      if (this.callerSignal?.aborted) throw this.callerSignal.reason;
      if (this.hasFailed) throw this.failure;
      if (this.checks !== undefined) for (const check of this.checks) check();
      const { changes, settled } = this.finishDrafts(result, alongside);
      this.changes = changes;
      return settled;
    } catch (error) {
      this.abandon();
      throw error;
    }
  }

  /** The second half: stores what was prepared and ends the turn. The promise settles when the store has answered. */
  store(): Promise<void> | undefined {
    try {
      this.assertOpen();
      this.storing = this.write() ?? undefined;
      if (this.endings !== undefined) this.storing = this.tellWhenStored(this.storing, this.endings);
      this.end('committed');
      return this.storing;
    } catch (error) {
      this.abandon();
      throw error;
    }
  }

  /** {@link rollback}, at once. Does nothing after the turn. */
  abandon(_cause?: unknown): void {
    if (this.isRunning) this.end('rolled-back');
  }

  /** The lock is gone: nothing of this turn can be stored any more. Its drafts stay usable until its code ends. */
  lose(error: StateError): void {
    if (this.status !== 'open') return;
    this.status = 'lost';
    this.failure = error;
    this.controller?.abort(error);
    this.host.releaseTurn(this);
  }

  private write(): void | Promise<void> {
    const { host, companions } = this;
    if (companions === undefined) return host.writeStates(this, this.changes as TurnChanges);
    for (const turn of companions) turn.assertOpen();
    return host.writeTogether(
      [this, ...companions].map((turn) => ({ turn, changes: turn.changes as TurnChanges })),
    );
  }

  private open(definition: StateDefinition): StateDraft {
    this.assertOpen();
    for (const draft of this.drafts) if (draft.definition === definition) return draft;
    const stored = this.base === undefined ? undefined : this.host.readState(this.base, definition);
    const draft = new StateDraft(definition, stored ?? freshSnapshot(definition), stored === undefined);
    // Not pushed: an array that grows takes room for sixteen more, and most turns have one state.
    this.drafts = this.drafts.length === 0 ? [draft] : [...this.drafts, draft];
    return draft;
  }

  private assertOpen(): void {
    if (this.status === 'open') return;
    if (this.status === 'lost') throw this.failure;
    throw new StateError(
      STATE_ERROR_CODES.turnEnded,
      `The turn of ${this.description} has ended (${this.status}).`,
    );
  }

  private finishDrafts(result: unknown, alongside: boolean): { changes: TurnChanges; settled: unknown } {
    const detached = detach(result, this.drafts);
    // One state alone cannot hold a draft of another: its draft can be finished straight away.
    const isAlone = !alongside && this.drafts.length === 1 && this.deleted === undefined;
    const finished = this.drafts.map((draft) => ({
      draft,
      snapshot: isAlone ? draft.finish() : draft.read(),
    }));
    return {
      changes: {
        deleteAll: this.base === undefined,
        changed: finished.every(hasChanged) ? finished : finished.filter(hasChanged),
        from: this.base === this ? undefined : this.base,
        to: this.heir,
      },
      settled: detached === undefined ? result : detached.resolve(finished),
    };
  }

  private end(status: 'committed' | 'rolled-back'): void {
    const heldLock = this.status === 'open';
    this.status = status;
    this.changes = undefined;
    if (status === 'rolled-back') this.tellEnd(false);
    if (this.onCallerAbort !== undefined) this.callerSignal?.removeEventListener('abort', this.onCallerAbort);
    try {
      for (const draft of this.drafts) draft.discard();
      if (this.deleted !== undefined) for (const draft of this.deleted) draft.discard();
    } finally {
      try {
        if (heldLock) this.host.releaseTurn(this);
      } finally {
        if (this.companions !== undefined) this.endCompanions(this.companions, status);
      }
    }
  }

  private tellWhenStored(
    storing: Promise<void> | undefined,
    endings: ((isStored: boolean) => void)[],
  ): Promise<void> | undefined {
    this.endings = undefined;
    if (storing === undefined) {
      tell(endings, true);
      return undefined;
    }
    return storing.then(
      () => tell(endings, true),
      (error: unknown) => {
        tell(endings, false);
        throw error;
      },
    );
  }

  private tellEnd(isStored: boolean): void {
    const { endings } = this;
    if (endings === undefined) return;
    this.endings = undefined;
    tell(endings, isStored);
  }

  /** Ends every one of them, also when something is thrown on the way. */
  private endCompanions(companions: readonly ManagedTurn[], status: 'committed' | 'rolled-back'): void {
    const failures: unknown[] = [];
    for (const turn of companions) {
      try {
        if (turn.isRunning) turn.end(status);
      } catch (error) {
        failures.push(error);
      }
    }
    if (failures.length > 0) throw failures[0];
  }
}

/** What comes of it is undone in the other order. */
function tell(endings: readonly ((isStored: boolean) => void)[], isStored: boolean): void {
  for (const ending of isStored ? endings : endings.toReversed()) ending(isStored);
}

function allReleased(releases: readonly (Promise<void> | undefined)[]): Promise<void> | undefined {
  const pending = releases.filter((release) => release !== undefined);
  return pending.length === 0 ? undefined : Promise.all(pending).then(() => undefined);
}

function hasChanged({ draft, snapshot }: FinishedDraft): boolean {
  return draft.hasChanged(snapshot);
}

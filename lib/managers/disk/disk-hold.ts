import type { StateRecord } from '../../internal/state-codec.js';
import type { HeldStates, StatesMade } from '../held-states.js';
import type { TurnChanges } from '../managed-turn.js';

/** A commit that its caller has not been told of yet. */
export interface AcceptedCommit {
  readonly hold: DiskHold;
  readonly made: StatesMade;
  /** The states as this commit has left them, where somebody watches. */
  readonly view: HeldStates | undefined;
}

/**
 * The states of an ident that is in use, or was a moment ago: what is on the disk, and what turns have made of it since.
 *
 * The next turn goes on with what the one before has made, without waiting for the disk; readers see nothing of that
 * before it is there.
 */
export class DiskHold {
  /** What is on the disk, for readers. */
  committed: HeldStates;
  /** What was accepted and is not being written yet, where callers wait for the disk. */
  private accepted: AcceptedCommit[] = [];
  private writing: AcceptedCommit[] = [];
  private isWaiting = false;
  private isBeingWritten = false;

  /**
   * @param held What the next turn begins with.
   * @param isNew Nothing is known of it: whatever the disk has goes first.
   * @param isAwaited Callers wait for the disk, and readers see what is there.
   */
  constructor(
    readonly ident: string,
    readonly hash: string,
    readonly held: HeldStates,
    private isNew: boolean,
    private readonly isAwaited: boolean,
  ) {
    this.committed = held;
  }

  /** Whether there is something that is not on the disk. */
  get isUnwritten(): boolean {
    return this.isWaiting || this.isBeingWritten;
  }

  /**
   * Takes over what a turn has changed; `moved` are states of another ident that are those of this one from now on.
   *
   * @throws {StateSerializationError} when it cannot be stored.
   */
  accept(changes: TurnChanges, isWatched: boolean, moved: HeldStates | undefined): AcceptedCommit {
    const { held } = this;
    if (this.isAwaited && this.committed === held) this.committed = held.freeze();
    const made = held.apply(changes, false, moved);
    const commit = { hold: this, made, view: isWatched ? held.freeze() : undefined };
    if (this.isAwaited) this.accepted.push(commit);
    this.isWaiting = true;
    return commit;
  }

  /** What the disk has to write to be up to date, taken as being written. */
  takeWrites(): { readonly replaces: boolean; readonly fields: readonly StateRecord[] } {
    const { deleteAll, fields } = this.held.takeWrites();
    const replaces = deleteAll || this.isNew;
    this.isNew = false;
    this.writing = this.accepted;
    this.accepted = [];
    this.isWaiting = false;
    this.isBeingWritten = true;
    return { replaces, fields };
  }

  /** It is written: what its callers are to be told, in order. `view` is what was written. */
  written(view: HeldStates): readonly AcceptedCommit[] {
    const { writing } = this;
    this.writing = [];
    this.isBeingWritten = false;
    if (this.isAwaited) this.committed = this.isWaiting ? view : this.held;
    return writing;
  }

  /** It could not be written: the next one writes everything. */
  writeAgain(): void {
    this.held.rewrite();
    this.isNew = true;
    this.isWaiting = true;
    this.isBeingWritten = false;
  }
}

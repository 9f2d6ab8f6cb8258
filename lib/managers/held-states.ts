import type { StateCodec, StateRecord, StateStep, TurnSteps } from '../internal/state-codec.js';
import type { StateDefinition } from '../internal/state-definition.js';
import type { Snapshot } from '../internal/state-draft.js';
import type { TurnChanges } from './managed-turn.js';
import type { FinishedDraft } from './turn-result.js';
import type { StoredState } from './watch/watched-state.js';

/** What a field of the hash starts with that is kept aside, or no state at all. No state name can start so. */
const ASIDE = '~';
const NO_STATE = /^[~#]/;

/** Whether that field of the hash is the name of a state. */
export function isStateField(field: string): boolean {
  return !NO_STATE.test(field);
}

/** Names of states that a commit has made or removed. */
export interface StatesMade {
  readonly created: readonly string[];
  readonly deleted: readonly string[];
  /** What the turn has changed, created states among it. */
  readonly changed: readonly FinishedDraft[];
  /** What was there before, when states were deleted. */
  readonly gone: HeldStates | undefined;
  /** The ident that has the removed states now. */
  readonly movedTo: string | undefined;
  /** Names of states that were those of another ident so far. */
  readonly moved: readonly string[];
}

/** What a script is to write. */
export interface StateWrites {
  /** Everything stored goes first. */
  readonly deleteAll: boolean;
  /** What those who watch are told; empty when nobody does, or not all of it was written down. */
  readonly steps: Buffer | '';
  /** Fields of the hash and their values, in turn. */
  readonly fields: readonly StateRecord[];
}

/** One state of an ident whose lock this process has. */
class HeldState {
  private record: StateRecord | undefined;
  private definition: StateDefinition | undefined;
  private snapshot: Snapshot | undefined;
  /** How many commits have made it; known when it was read or written. */
  commits = 0;

  static stored(record: Buffer): HeldState {
    const state = new HeldState();
    state.record = record;
    return state;
  }

  static written(definition: StateDefinition, snapshot: Snapshot, commits: number): HeldState {
    const state = new HeldState();
    state.definition = definition;
    state.snapshot = snapshot;
    state.commits = commits;
    return state;
  }

  recordBy(codec: StateCodec): StateRecord {
    return (this.record ??= codec.encode(
      this.definition as StateDefinition,
      this.snapshot as Snapshot,
      this.commits,
    ));
  }

  /** @throws when `definition` cannot read it. */
  as(definition: StateDefinition, codec: StateCodec): Snapshot {
    if (this.snapshot === undefined || this.definition?.cls !== definition.cls) {
      const decoded = codec.decode(definition, this.recordBy(codec));
      this.definition = definition;
      this.snapshot = decoded;
      this.commits = decoded.commits;
    }
    return this.snapshot;
  }
}

/**
 * The states of an ident while this process has its lock: what was loaded, and what turns have made of it since.
 *
 * Records are decoded when somebody asks for them, and encoded when they are written.
 */
export class HeldStates {
  private readonly unwritten = new Map<string, StateRecord>();
  private isDeleted = false;
  /** What each turn has done since the last writes; `undefined` when one of them did not write it down. */
  private steps: TurnSteps[] | undefined = [];

  private constructor(
    private readonly states: Map<string, HeldState>,
    private readonly codec: StateCodec,
  ) {}

  /** @param fields Names and records of the hash, in turn. */
  static load(fields: readonly Buffer[], codec: StateCodec): HeldStates {
    const states = new Map<string, HeldState>();
    for (let index = 0; index + 1 < fields.length; index += 2) {
      const name = (fields[index] as Buffer).toString();
      if (isStateField(name)) states.set(name, HeldState.stored(fields[index + 1] as Buffer));
    }
    return new HeldStates(states, codec);
  }

  /** Whether there is something that the server does not have. */
  get isDirty(): boolean {
    return this.isDeleted || this.unwritten.size > 0;
  }

  get isEmpty(): boolean {
    return this.states.size === 0;
  }

  get names(): string[] {
    return [...this.states.keys()];
  }

  /** The record of a state that is there. */
  record(name: string): StateRecord | undefined {
    return this.states.get(name)?.recordBy(this.codec);
  }

  /** What is there now, for readers, whatever turns make of it later. */
  freeze(): HeldStates {
    return new HeldStates(new Map(this.states), this.codec);
  }

  /** The state, or `undefined` when there is none or none that can be read; `onUnreadable` is told of the latter. */
  read(
    definition: StateDefinition,
    onUnreadable: (record: StateRecord, error: unknown) => void,
  ): Snapshot | undefined {
    const state = this.states.get(definition.name);
    try {
      return state?.as(definition, this.codec);
    } catch (error) {
      onUnreadable((state as HeldState).recordBy(this.codec), error);
      return undefined;
    }
  }

  /** {@link read}, with how many commits have made the state. */
  stored(
    definition: StateDefinition,
    onUnreadable: (record: StateRecord, error: unknown) => void,
  ): StoredState | undefined {
    const snapshot = this.read(definition, onUnreadable);
    if (snapshot === undefined) return undefined;
    return { snapshot, version: this.states.get(definition.name)?.commits ?? 0 };
  }

  /** @throws {StateSerializationError} when what a turn has changed cannot be stored. */
  check({ changed }: TurnChanges): void {
    for (const { draft, snapshot } of changed)
      if (snapshot.deep) this.codec.check(draft.definition, snapshot);
  }

  /** What is there is to be written once more, as nobody knows what became of it. */
  rewrite(): void {
    this.isDeleted = true;
    for (const name of this.states.keys()) this.unwritten.set(name, '');
  }

  /**
   * Takes over what a turn has committed, and writes down what it has done if somebody watches. `moved` are the states of
   * another ident that are those of this one from now on.
   *
   * @throws {StateSerializationError} when it cannot be stored; nothing is taken over then.
   */
  apply(changes: TurnChanges, isWatched: boolean, moved?: HeldStates): StatesMade {
    const { deleteAll, changed, to } = changes;
    // Whoever is nested too deeply has to learn of it alone, before others share a commit with him.
    this.check(changes);
    const deleted = deleteAll ? this.names : [];
    let gone: HeldStates | undefined;
    if (deleted.length > 0) {
      gone = this.freeze();
      this.states.clear();
      this.unwritten.clear();
      this.isDeleted = true;
    }
    for (const [name, state] of moved?.states ?? []) {
      this.states.set(name, state);
      this.unwritten.set(name, '');
    }
    const created: string[] = [];
    const steps: StateStep[] = [];
    for (const { draft, snapshot } of changed) {
      const { definition } = draft;
      const { name, version } = definition;
      const before = this.states.get(name);
      if (before === undefined) created.push(name);
      const commits = before !== undefined && this.canRead(name, before, definition) ? before.commits + 1 : 1;
      const state = HeldState.written(definition, snapshot, commits);
      this.states.set(name, state);
      this.unwritten.set(name, '');
      if (!isWatched) continue;
      const patches = draft.patches(snapshot);
      const change = patches === undefined ? { record: state.recordBy(this.codec) } : { patches };
      steps.push({ name, version, commits, change });
    }
    // Who watches does not know what the patches of moved states lead on from.
    if (moved?.isEmpty === false) this.steps = undefined;
    else if (!isWatched && deleted.length + changed.length > 0) this.steps = undefined;
    else if (deleted.length + steps.length > 0)
      this.steps?.push({ isDeleted: deleted.length > 0, states: steps });
    return { created, deleted, changed, gone, movedTo: to?.ident, moved: moved?.names ?? [] };
  }

  /** What the server has to write to be up to date, taken as written. */
  takeWrites(): StateWrites {
    const deleteAll = this.isDeleted;
    const fields: StateRecord[] = [];
    for (const [field, aside] of this.unwritten)
      fields.push(field, aside === '' ? (this.states.get(field) as HeldState).recordBy(this.codec) : aside);
    const steps =
      this.steps === undefined || this.steps.length === 0 ? '' : this.codec.encodeSteps(this.steps);
    this.unwritten.clear();
    this.isDeleted = false;
    this.steps = [];
    return { deleteAll, steps, fields };
  }

  /** Whether a record that is about to be replaced can be read. One that cannot stays in the hash, under a name of its own. */
  private canRead(name: string, before: HeldState, definition: StateDefinition): boolean {
    try {
      before.as(definition, this.codec);
      return true;
    } catch {
      this.unwritten.set(ASIDE + name, before.recordBy(this.codec));
      return false;
    }
  }
}

import type { StateCodec } from '../../internal/state-codec.js';
import type { StateDefinition } from '../../internal/state-definition.js';
import type { Snapshot } from '../../internal/state-draft.js';
import type { TurnChanges } from '../managed-turn.js';
import type { FinishedDraft } from '../turn-result.js';

/** What a field of the hash starts with that is kept aside, or no state at all. No state name can start so. */
const ASIDE = '~';
const NO_STATE = /^[~#]/;

/** Names of states that a commit has made or removed. */
export interface StatesMade {
  readonly created: readonly string[];
  readonly deleted: readonly string[];
  /** What the turn has changed, created states among it. */
  readonly changed: readonly FinishedDraft[];
  /** What was there before, when states were deleted. */
  readonly gone: HeldStates | undefined;
}

/** What a script is to write. */
export interface StateWrites {
  /** Everything stored goes first. */
  readonly deleteAll: boolean;
  /** Fields of the hash and their values, in turn. */
  readonly fields: readonly (string | Buffer)[];
}

/** One state of an ident whose lock this process has. */
class HeldState {
  private record: Buffer | undefined;
  private definition: StateDefinition | undefined;
  private snapshot: Snapshot | undefined;

  static stored(record: Buffer): HeldState {
    const state = new HeldState();
    state.record = record;
    return state;
  }

  static written(definition: StateDefinition, snapshot: Snapshot): HeldState {
    const state = new HeldState();
    state.definition = definition;
    state.snapshot = snapshot;
    return state;
  }

  bytes(codec: StateCodec): Buffer {
    return (this.record ??= codec.encode(this.definition as StateDefinition, this.snapshot as Snapshot));
  }

  /** @throws when `definition` cannot read it. */
  as(definition: StateDefinition, codec: StateCodec): Snapshot {
    if (this.snapshot === undefined || this.definition?.cls !== definition.cls) {
      const snapshot = codec.decode(definition, this.bytes(codec));
      this.definition = definition;
      this.snapshot = snapshot;
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
  private readonly unwritten = new Map<string, string | Buffer>();
  private isDeleted = false;

  private constructor(
    private readonly states: Map<string, HeldState>,
    private readonly codec: StateCodec,
  ) {}

  /** @param fields Names and records of the hash, in turn. */
  static load(fields: readonly Buffer[], codec: StateCodec): HeldStates {
    const states = new Map<string, HeldState>();
    for (let index = 0; index + 1 < fields.length; index += 2) {
      const name = (fields[index] as Buffer).toString();
      if (!NO_STATE.test(name)) states.set(name, HeldState.stored(fields[index + 1] as Buffer));
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
  record(name: string): Buffer | undefined {
    return this.states.get(name)?.bytes(this.codec);
  }

  /** What is there now, for readers, whatever turns make of it later. */
  freeze(): HeldStates {
    return new HeldStates(new Map(this.states), this.codec);
  }

  /** The state, or `undefined` when there is none or none that can be read; `onUnreadable` is told of the latter. */
  read(
    definition: StateDefinition,
    onUnreadable: (record: Buffer, error: unknown) => void,
  ): Snapshot | undefined {
    const state = this.states.get(definition.name);
    try {
      return state?.as(definition, this.codec);
    } catch (error) {
      onUnreadable((state as HeldState).bytes(this.codec), error);
      return undefined;
    }
  }

  /**
   * Takes over what a turn has committed.
   *
   * @throws {StateSerializationError} when it cannot be stored; nothing is taken over then.
   */
  apply({ deleteAll, changed }: TurnChanges): StatesMade {
    // Whoever is nested too deeply has to learn of it alone, before others share a commit with him.
    for (const { draft, snapshot } of changed)
      if (snapshot.deep) this.codec.check(draft.definition, snapshot);
    const deleted = deleteAll ? this.names : [];
    let gone: HeldStates | undefined;
    if (deleted.length > 0) {
      gone = this.freeze();
      this.states.clear();
      this.unwritten.clear();
      this.isDeleted = true;
    }
    const created: string[] = [];
    for (const { draft, snapshot } of changed) {
      const { definition } = draft;
      const { name } = definition;
      const before = this.states.get(name);
      if (before === undefined) created.push(name);
      else this.keepAside(name, before, definition);
      this.states.set(name, HeldState.written(definition, snapshot));
      this.unwritten.set(name, '');
    }
    return { created, deleted, changed, gone };
  }

  /** What the server has to write to be up to date, taken as written. */
  takeWrites(): StateWrites {
    const deleteAll = this.isDeleted;
    const fields: (string | Buffer)[] = [];
    for (const [field, aside] of this.unwritten)
      fields.push(field, aside === '' ? (this.states.get(field) as HeldState).bytes(this.codec) : aside);
    this.unwritten.clear();
    this.isDeleted = false;
    return { deleteAll, fields };
  }

  /** A record that could not be read is about to be replaced: it stays in the hash, under a name of its own. */
  private keepAside(name: string, before: HeldState, definition: StateDefinition): void {
    try {
      before.as(definition, this.codec);
    } catch {
      this.unwritten.set(ASIDE + name, before.bytes(this.codec));
    }
  }
}

import { isDeepStrictEqual, types } from 'node:util';
import { serialize } from 'node:v8';
import { Immer, current, enableMapSet } from 'immer';
import { StateSerializationError } from '../state.errors.js';
import { completeDrafts } from './draft-methods.js';
import { isPrimitive, seal, type Sealed } from './seal.js';
import type { StateDefinition } from './state-definition.js';
import { at, has, statePatches, type StatePatch } from './state-patches.js';

enableMapSet();
// Freezing is done by `seal`, in the same visit that checks the values.
const immer = new Immer({ autoFreeze: false });
const nestedImmer = new Immer();
completeDrafts(immer);
const OUTSIDE = Object.freeze({});

/**
 * A draft of `base`. Where parts of it can have drafts of their own, one that Immer takes for the draft of an inner call:
 * those it does not freeze either. Told not to freeze, it leaves drafts in what has several of them in several places.
 */
function createDraft(base: object): object {
  if (isFlat(base)) return immer.createDraft(base) as object;
  let draft: object = OUTSIDE;
  nestedImmer.produce(OUTSIDE, () => {
    draft = nestedImmer.createDraft(base);
  });
  return draft;
}

/** How often at most a draft is tried to be ended. */
const MAX_FINISHES = 100_000;

/** An immutable state as it is stored. */
export interface Snapshot {
  readonly value: object;
  /** It holds typed arrays: every reader gets a copy. */
  readonly binary: boolean;
  /** It is nested so deeply that a store may not be able to follow. */
  readonly deep: boolean;
}

/** A new, immutable `new StateClass()`. @throws {StateSerializationError} when its defaults cannot be stored. */
export function freshSnapshot(definition: StateDefinition): Snapshot {
  // A copy: defaults may be constants of the application, which are not to be frozen.
  return seal<object>(new definition.cls(), { name: definition.name, copy: true });
}

/** What a reader gets of `snapshot`. */
export function readable({ value, binary }: Snapshot, name: string): object {
  return binary ? seal(value, { name, copy: true }).value : value;
}

/**
 * The snapshot that `patches` make of `base`. Values in `patches` must not be used afterwards.
 *
 * @throws when a path of them does not exist.
 */
export function patched({ name }: StateDefinition, base: Snapshot, patches: readonly StatePatch[]): Snapshot {
  const draft = createDraft(base.value);
  for (const { op, path, value } of patches) {
    let container = draft;
    for (const step of path.slice(0, -1)) {
      if (!has(container, step)) throw new Error('a path leads nowhere');
      container = at(container, step) as object;
    }
    const step = path.at(-1) as string | number;
    if (step === '__proto__' && !types.isMap(container)) throw new Error('a key is forbidden');
    if (op === 'insert') (container as unknown[]).splice(Number(step), 0, value);
    else if (op === 'remove') removeAt(container, step);
    else if (types.isMap(container)) container.set(step, value);
    else (container as Record<string | number, unknown>)[step] = value;
  }
  return seal(immer.finishDraft(draft) as object, { name, base: base.value, copy: true });
}

function removeAt(container: object, step: string | number): void {
  if (Array.isArray(container)) container.splice(Number(step), 1);
  else if (types.isMap(container)) container.delete(step);
  else Reflect.deleteProperty(container, step);
}

/**
 * The mutable view of one state during one turn.
 *
 * Guarantee: the snapshot it was made from never changes; when it is finished or discarded, every use of it throws.
 */
export class StateDraft {
  /** What the turn's owner changes. */
  readonly value: object;
  private readonly source: object;
  private alive = true;
  private isReplaced = false;

  constructor(
    readonly definition: StateDefinition,
    /** What it was made from. */
    readonly base: Snapshot,
    /** Nothing was stored: each process that looks has a fresh state of its own. */
    private readonly isFresh = false,
  ) {
    // Immer makes no drafts of typed arrays, so a turn gets its own copies of them to write into.
    this.source = base.binary
      ? seal(base.value, { name: definition.name, copy: true, thaw: true }).value
      : base.value;
    this.value = createDraft(this.source);
  }

  /**
   * The new snapshot, or the old one when nothing was changed. The draft is dead afterwards.
   *
   * @throws {StateSerializationError} when it holds what cannot be stored.
   */
  finish(): Snapshot {
    let result: object;
    try {
      result = immer.finishDraft(this.value) as object;
    } catch (error) {
      throw this.explain(error);
    }
    this.alive = false;
    return this.sealed(result);
  }

  /**
   * As {@link finish}, but the draft lives on, for turns in which one state can hold a draft of another: all are read
   * before the first one dies. Cost: about ten times that of {@link finish} when the state has changed.
   */
  read(): Snapshot {
    return this.sealed(this.isUntouched() ? this.source : this.value);
  }

  /**
   * What leads from where this draft began to `snapshot`, which it ended in; `undefined` when only the whole of it says so,
   * because what it began from is not the same everywhere.
   */
  patches(snapshot: Snapshot): readonly StatePatch[] | undefined {
    const { base } = this;
    if (this.isFresh || base.binary || snapshot.binary) return undefined;
    const patches = statePatches(base.value, snapshot.value);
    return patches[0]?.path.length === 0 ? undefined : patches;
  }

  /** Ends the draft without reading it. */
  discard(): void {
    if (!this.alive) return;
    this.alive = false;
    for (let attempt = 0; attempt < MAX_FINISHES; attempt += 1) {
      try {
        immer.finishDraft(this.value);
        return;
      } catch {
        // It holds a dead draft of another state, or a throwing getter. Immer ends a draft only when it can finish it: so
        // without its content, and once more for each part that it stumbles over, of which it forgets one each time.
        if (attempt === 0) this.replace({});
      }
    }
  }

  /** Whether `snapshot`, which this draft ended in, has to be stored. */
  hasChanged(snapshot: Snapshot): boolean {
    return snapshot !== this.base || this.isReplaced;
  }

  /** Replaces all fields; the result counts as changed, also when it equals what a fresh state would be. */
  replace(fields: object): void {
    this.isReplaced = true;
    const draft = this.value as Record<string, unknown>;
    for (const key of Object.keys(draft)) {
      if (!Object.hasOwn(fields, key)) delete draft[key];
    }
    Object.assign(draft, fields);
  }

  private isUntouched(): boolean {
    try {
      return current(this.value) === this.source;
    } catch {
      // It holds a throwing getter, say: sealing it will tell.
      return false;
    }
  }

  private sealed(result: object): Snapshot {
    const { base, definition } = this;
    if (!base.binary) {
      if (result === base.value) return base;
      if (result !== this.value && isFlat(result))
        return { value: Object.freeze(result), binary: false, deep: false };
      // What the turn's owner has put in is still his: it is copied, not frozen.
      return seal(result, { name: definition.name, base: base.value, copy: true });
    }
    const sealed: Sealed<object> = seal(result, { name: definition.name, copy: true });
    return isSame(sealed.value, base.value) ? base : sealed;
  }

  /** Immer met something it cannot finish and does not say where: looks for it, and says. */
  private explain(error: unknown): StateSerializationError {
    const { name } = this.definition;
    try {
      seal(this.value, { name, copy: true, thaw: true });
    } catch (found) {
      if (found instanceof StateSerializationError) return found;
    }
    return new StateSerializationError(name, 'cannot be stored', { cause: error });
  }
}

/** Whether two sealed values are equal, also in the order of keys and of what is in a Map or a Set. */
function isSame(value: object, base: object): boolean {
  return isDeepStrictEqual(value, base) && serialize(value).equals(serialize(base));
}

/** Whether sealing Immer's own copy of a state would only freeze it: all of its fields are values. */
function isFlat(copy: object): boolean {
  if (Object.getOwnPropertySymbols(copy).length > 0) return false;
  for (const key of Object.keys(copy)) {
    if (key === '__proto__' || !isPrimitive((copy as Record<string, unknown>)[key])) return false;
  }
  return true;
}

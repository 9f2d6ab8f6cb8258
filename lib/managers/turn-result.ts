import { current, isDraft, original } from 'immer';
import { seal } from '../internal/seal.js';
import { readable, type Snapshot, type StateDraft } from '../internal/state-draft.js';

const NO_DRAFTS: readonly StateDraft[] = [];

/** A draft and the snapshot it ended in. */
export interface FinishedDraft {
  readonly draft: StateDraft;
  readonly snapshot: Snapshot;
}

/** A result whose drafts are about to die. */
export interface DetachedResult {
  /** The result, with the committed snapshots in the place of the drafts. */
  resolve(finished: readonly FinishedDraft[]): unknown;
}

/**
 * Takes the drafts out of what a turn returns, before they die: a dead draft in an HTTP response would throw where
 * nobody expects it. Looks into plain objects and arrays, which are copied where they hold a draft, and into the fields
 * of instances, which get the snapshot in the place of the draft: a copy of them might not be one of their class.
 * Instances in those are left alone: from a stream or a connection one would get everywhere. `undefined` when there is
 * no draft in it.
 */
export function detach(result: unknown, drafts: readonly StateDraft[]): DetachedResult | undefined {
  if (!holdsDraft(result, false)) return undefined;
  const holes: ((finished: readonly FinishedDraft[]) => void)[] = [];
  const copies = new Map<object, object>();
  const copy = (value: unknown, isInside: boolean, place: (replacement: unknown) => void): void => {
    if (isDraft(value)) {
      const root = drafts.find((draft) => draft.value === value);
      if (root === undefined) place(contentOf(value as object));
      else holes.push((finished) => place(snapshotOf(root, finished)));
      return;
    }
    if (typeof value !== 'object' || value === null) return place(value);
    const known = copies.get(value);
    if (known !== undefined) return place(known);
    if (isContainer(value)) {
      const target = Array.isArray(value) ? [] : {};
      copies.set(value, target);
      for (const key of Object.keys(value))
        copy(value[key], isInside, (replacement) => define(target, key, replacement));
      return place(target);
    }
    if (!isInside && isInstance(value)) {
      copies.set(value, value);
      for (const key of draftFields(value))
        copy(value[key], true, (replacement) => (value[key] = replacement));
    }
    return place(value);
  };
  let detached: unknown;
  copy(result, false, (replacement) => (detached = replacement));
  return {
    resolve: (finished) => {
      for (const fill of holes) fill(finished);
      return detached;
    },
  };
}

/**
 * What a turn has failed with, to be told when its drafts are dead: what they hold now stands in their place, as in
 * {@link detach}. An exception that shows a part of the state has to arrive as that exception.
 */
export function surviving(error: unknown): unknown {
  try {
    const detached = detach(error, NO_DRAFTS);
    return detached === undefined ? error : detached.resolve([]);
  } catch {
    // It holds what cannot be read, or not be stored: then it is as it is.
    return error;
  }
}

/** @param isInside Of an instance, whose own instances are not looked into. */
function holdsDraft(value: unknown, isInside: boolean, seen?: Set<object>): boolean {
  if (typeof value !== 'object' || value === null) return false;
  if (isDraft(value)) return true;
  if (!isContainer(value)) return !isInside && isInstance(value) && draftFields(value).length > 0;
  if (seen?.has(value) === true) return false;
  let visited = seen;
  for (const key of Object.keys(value)) {
    const item = value[key];
    // Most results are flat: what they have been through is kept only for those that are not.
    if (typeof item !== 'object' || item === null) continue;
    visited ??= new Set();
    visited.add(value);
    if (holdsDraft(item, isInside, visited)) return true;
  }
  return false;
}

type Fields = Record<string, unknown>;

/**
 * The fields of an instance that hold a draft and can be given something else, also those that are not listed: the `cause`
 * of an error is one. Calls no accessor.
 */
function draftFields(instance: Fields): string[] {
  return Object.getOwnPropertyNames(instance).filter((key) => {
    const field = Object.getOwnPropertyDescriptor(instance, key);
    return field?.writable === true && holdsDraft(field.value, true);
  });
}

/** Whether it is of somebody's own class. Bytes have as many fields as there are of them. */
function isInstance(value: object): value is Fields {
  return !ArrayBuffer.isView(value);
}

function isContainer(value: object): value is Fields {
  if (Array.isArray(value)) return true;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}

/** What a draft below the root of a state holds now; the very object that is stored if it was not changed. */
function contentOf(draft: object): object {
  const base: unknown = original(draft);
  // The original is the stored object itself, unless it holds typed arrays: then it is the turn's own mutable copy.
  return seal(current(draft), { name: 'result', base: Object.isFrozen(base) ? base : undefined, copy: true })
    .value;
}

function snapshotOf(root: StateDraft, finished: readonly FinishedDraft[]): unknown {
  const snapshot = finished.find(({ draft }) => draft === root)?.snapshot as Snapshot;
  return readable(snapshot, root.definition.name);
}

function define(target: object, key: string, value: unknown): void {
  Object.defineProperty(target, key, { value, writable: true, enumerable: true, configurable: true });
}

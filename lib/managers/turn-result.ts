import { current, isDraft, original } from 'immer';
import { seal } from '../internal/seal.js';
import { readable, type Snapshot, type StateDraft } from '../internal/state-draft.js';

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
 * nobody expects it. Looks into plain objects and arrays; they are copied where they hold a draft. `undefined` when there is none in it.
 */
export function detach(result: unknown, drafts: readonly StateDraft[]): DetachedResult | undefined {
  if (!holdsDraft(result)) return undefined;
  const holes: ((finished: readonly FinishedDraft[]) => void)[] = [];
  const copies = new Map<object, object>();
  const copy = (value: unknown, place: (replacement: unknown) => void): void => {
    if (isDraft(value)) {
      const root = drafts.find((draft) => draft.value === value);
      if (root === undefined) place(contentOf(value as object));
      else holes.push((finished) => place(snapshotOf(root, finished)));
    } else if (isContainer(value)) {
      let target = copies.get(value);
      if (target === undefined) {
        target = Array.isArray(value) ? [] : {};
        copies.set(value, target);
        for (const key of Object.keys(value)) {
          copy((value as Record<string, unknown>)[key], (replacement) =>
            define(target as object, key, replacement),
          );
        }
      }
      place(target);
    } else {
      place(value);
    }
  };
  let detached: unknown;
  copy(result, (replacement) => (detached = replacement));
  return {
    resolve: (finished) => {
      for (const fill of holes) fill(finished);
      return detached;
    },
  };
}

function holdsDraft(value: unknown, seen?: Set<object>): boolean {
  if (typeof value !== 'object' || value === null) return false;
  if (isDraft(value)) return true;
  if (!isContainer(value) || seen?.has(value) === true) return false;
  let visited = seen;
  for (const key of Object.keys(value)) {
    const item = (value as Record<string, unknown>)[key];
    // Most results are flat: what they have been through is kept only for those that are not.
    if (typeof item !== 'object' || item === null) continue;
    visited ??= new Set();
    visited.add(value);
    if (holdsDraft(item, visited)) return true;
  }
  return false;
}

function isContainer(value: unknown): value is object {
  if (Array.isArray(value)) return true;
  if (typeof value !== 'object' || value === null) return false;
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

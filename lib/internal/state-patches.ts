import { types } from 'node:util';

/** One step from a container to what stands in it. */
export type PatchStep = string | number;

/** One step from a state to the next: `insert` moves what stands behind in an array, `remove` closes the gap. */
export interface StatePatch {
  readonly op: 'set' | 'insert' | 'remove';
  readonly path: readonly PatchStep[];
  readonly value?: unknown;
}

/**
 * What leads from one snapshot to the one that a draft of it has ended in, in the order in which it is to be done.
 *
 * A draft leaves what was not touched where it is: it is the same object in both, and is not looked into. (Immer's own
 * recorder of patches misses changes when one draft stands in two places.) Paths lead through objects, arrays and Maps
 * whose keys are strings or numbers; of what has no such names, a Set say, the whole is said. Cost: one look at each
 * place of the containers that were changed.
 */
export function statePatches(before: object, after: object): StatePatch[] {
  const patches: StatePatch[] = [];
  compare(before, after, [], patches);
  return patches;
}

function compare(before: unknown, after: unknown, path: readonly PatchStep[], patches: StatePatch[]): void {
  if (Object.is(before, after)) return;
  if (Array.isArray(before) && Array.isArray(after)) compareArrays(before, after, path, patches);
  else if (!haveNames(before, after) || !compareNamed(before, after as object, path, patches))
    patches.push({ op: 'set', path, value: after });
}

function compareArrays(
  before: readonly unknown[],
  after: readonly unknown[],
  path: readonly PatchStep[],
  patches: StatePatch[],
): void {
  const shorter = Math.min(before.length, after.length);
  let start = 0;
  while (start < shorter && Object.is(before[start], after[start])) start += 1;
  let same = 0;
  while (same < shorter - start && Object.is(before.at(-1 - same), after.at(-1 - same))) same += 1;
  const end = shorter - same;
  for (let index = start; index < end; index += 1)
    compare(before[index], after[index], [...path, index], patches);
  for (let index = before.length - same - 1; index >= end; index -= 1)
    patches.push({ op: 'remove', path: [...path, index] });
  for (let index = end; index < after.length - same; index += 1)
    patches.push({ op: 'insert', path: [...path, index], value: after[index] });
}

/** False, with nothing added, when the whole has to be said: it would not get the order it has. */
function compareNamed(
  before: object,
  after: object,
  path: readonly PatchStep[],
  patches: StatePatch[],
): boolean {
  const names = namesIn(after);
  const kept = namesIn(before).filter((name) => has(after, name));
  for (const [index, name] of kept.entries()) if (names[index] !== name) return false;
  for (const name of namesIn(before))
    if (!has(after, name)) patches.push({ op: 'remove', path: [...path, name] });
  for (const name of kept) compare(at(before, name), at(after, name), [...path, name], patches);
  for (const name of names.slice(kept.length))
    patches.push({ op: 'set', path: [...path, name], value: at(after, name) });
  return true;
}

function haveNames(before: unknown, after: unknown): before is object {
  if (typeof before !== 'object' || typeof after !== 'object' || before === null || after === null)
    return false;
  if (types.isMap(before) && types.isMap(after))
    return namesIn(before).every(isStep) && namesIn(after).every(isStep);
  if (isOpaque(before) || isOpaque(after)) return false;
  return Object.getPrototypeOf(before) === Object.getPrototypeOf(after);
}

function isOpaque(value: object): boolean {
  return (
    Array.isArray(value) ||
    types.isMap(value) ||
    types.isSet(value) ||
    types.isDate(value) ||
    types.isTypedArray(value)
  );
}

function namesIn(container: object): PatchStep[] {
  return types.isMap(container)
    ? Array.from(container.keys() as Iterable<PatchStep>)
    : Object.keys(container);
}

function isStep(step: unknown): step is PatchStep {
  return typeof step === 'string' || (typeof step === 'number' && Number.isFinite(step));
}

/** Whether something stands at `step` of a container of a state. */
export function has(container: object, step: PatchStep): boolean {
  return types.isMap(container) ? container.has(step) : Object.hasOwn(container, step);
}

/** What stands at `step` of a container of a state; `undefined` for what it only inherits, `constructor` say. */
export function at(container: object, step: PatchStep): unknown {
  if (types.isMap(container)) return container.get(step);
  return Object.hasOwn(container, step) ? (container as Record<PatchStep, unknown>)[step] : undefined;
}

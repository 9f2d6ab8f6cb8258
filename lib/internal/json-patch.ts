import { types } from 'node:util';
import { at, statePatches, type PatchStep, type StatePatch } from './state-patches.js';

/** One operation of a JSON Patch. @see https://www.rfc-editor.org/rfc/rfc6902 */
export type JsonPatchOperation =
  | { readonly op: 'add' | 'replace'; readonly path: string; readonly value: unknown }
  | { readonly op: 'remove'; readonly path: string };

/**
 * The JSON of a state: what `JSON.stringify` makes of it, and for what that has no form: a Map is an object, or an array of
 * its entries when a key is no string, or `__proto__`; a Set and a typed array are arrays; a bigint is a string of its digits.
 *
 * Cost: one visit of the value.
 */
export function toJson(value: unknown): unknown {
  if (typeof value === 'bigint') return String(value);
  if (typeof value === 'number') return Number.isFinite(value) ? value + 0 : null;
  if (typeof value !== 'object' || value === null) return value;
  if (Array.isArray(value)) return value.map(itemToJson);
  if (types.isDate(value)) return Number.isNaN(value.getTime()) ? null : value.toISOString();
  if (types.isSet(value)) return Array.from(value, itemToJson);
  if (types.isTypedArray(value)) return Array.from(value as Iterable<unknown>, itemToJson);
  if (!types.isMap(value)) return fieldsToJson(Object.entries(value));
  return isNamed(value)
    ? fieldsToJson(value as ReadonlyMap<string, unknown>)
    : Array.from(value, ([key, item]) => [itemToJson(key), itemToJson(item)]);
}

/** The operations that turn the JSON of a snapshot into that of the one that a draft of it has ended in. */
export function jsonPatch(before: object, after: object): JsonPatchOperation[] {
  const operations: JsonPatchOperation[] = [];
  const wholes = new Set<string>();
  for (const patch of statePatches(before, after)) {
    const operation = operationOf(patch, before, after);
    if (operation === undefined || wholes.has(operation.path)) continue;
    if (operation.isWhole) wholes.add(operation.path);
    operations.push(operation.json);
  }
  return operations;
}

/** The operation that replaces everything by `after`. */
export function wholeJsonPatch(after: object): JsonPatchOperation[] {
  return [{ op: 'replace', path: '', value: toJson(after) }];
}

interface Operation {
  readonly json: JsonPatchOperation;
  readonly path: string;
  /** It says all that others say of the same place. */
  readonly isWhole: boolean;
}

function operationOf({ op, path, value }: StatePatch, before: object, after: object): Operation | undefined {
  // Up to the last step a path is the same in both.
  let old: unknown = before;
  let container: unknown = after;
  for (const [depth, step] of path.entries()) {
    if (isNameless(container, step) || isNameless(old, step)) {
      const pointer = pointerTo(path.slice(0, depth));
      return {
        json: { op: 'replace', path: pointer, value: toJson(container) },
        path: pointer,
        isWhole: true,
      };
    }
    if (depth === path.length - 1) break;
    old = at(old as object, step);
    container = at(container as object, step);
  }
  const pointer = pointerTo(path);
  const json = Array.isArray(container)
    ? itemOperation(op, pointer, value)
    : fieldOperation(pointer, path.length === 0 ? old : at(old as object, path.at(-1) as PatchStep), value);
  return json && { json, path: pointer, isWhole: false };
}

function itemOperation(op: StatePatch['op'], path: string, value: unknown): JsonPatchOperation {
  if (op === 'remove') return { op, path };
  return { op: op === 'set' ? 'replace' : 'add', path, value: itemToJson(value) };
}

/** JSON has no place for `undefined`. */
function fieldOperation(path: string, old: unknown, value: unknown): JsonPatchOperation | undefined {
  if (value !== undefined) return { op: old === undefined ? 'add' : 'replace', path, value: toJson(value) };
  return old === undefined ? undefined : { op: 'remove', path };
}

/** A Map that is no object in JSON, or was none: one of its keys is, or was, no name. */
function isNameless(container: unknown, step: PatchStep | undefined): boolean {
  return types.isMap(container) && (!isName(step) || !isNamed(container));
}

/** Whether a key of a Map can be that of a JSON object; one would change what the object is. */
function isName(key: unknown): key is string {
  return typeof key === 'string' && key !== '__proto__';
}

function isNamed(map: ReadonlyMap<unknown, unknown>): boolean {
  for (const key of map.keys()) if (!isName(key)) return false;
  return true;
}

function fieldsToJson(entries: Iterable<readonly [string, unknown]>): object {
  const json: Record<string, unknown> = {};
  for (const [key, item] of entries) {
    if (item === undefined) continue;
    json[key] = toJson(item);
  }
  return json;
}

function itemToJson(value: unknown): unknown {
  return value === undefined ? null : toJson(value);
}

function pointerTo(path: readonly PatchStep[]): string {
  return path.map((step) => `/${String(step).replaceAll('~', '~0').replaceAll('/', '~1')}`).join('');
}

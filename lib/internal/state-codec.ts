import { types } from 'node:util';
import { Packr } from 'msgpackr';
import { StateSerializationError } from '../state.errors.js';
import { isPrimitive, seal } from './seal.js';
import { definitionOf, findDefinition, upgrade, type StateDefinition } from './state-definition.js';
import type { Snapshot } from './state-draft.js';
import type { StatePatch } from './state-patches.js';

/** Records up to that size are read in one place, in bytes. */
const DESK_BYTES = 4_096;
/** A state of so many values is small: as text it is read and written with less work, and takes little more room. */
const TEXT_VALUES = 32;
/** What a record that is text begins with; no other one does. */
const TEXT_START = 0x5b;
/** The shape of a record: raised when a process of before could not read what is written now. */
const FORMAT = 1;
/** The only key of a Map that is no Map of the state, but says what it stands for. */
const ESCAPE = '\u0000nestjs-state';

const NONE: readonly string[] = [];
const TYPED_ARRAY = /^(Big)?(Int|Uint|Float)(8|16|32|64)(Clamped)?Array$/;

/** What MessagePack has no form for, and how it is written instead. */
type Escaped =
  | readonly ['state', PackedState]
  | readonly ['text', Uint8Array]
  | readonly ['array', readonly [type: string, bytes: Uint8Array]]
  | readonly ['object', readonly (readonly [unknown, unknown])[]]
  | readonly ['map', readonly (readonly [unknown, unknown])[]]
  | readonly ['-0'];

/** A state, the root or a nested one: name and version of its class, fields, and fields of the class it lacks. */
type PackedState = readonly [name: string, version: number, fields: unknown, missing: readonly string[]];

/** What is stored of a state: JSON where it is small and JSON has a form for all of it, else MessagePack. */
export type StateRecord = string | Buffer;

/** A state that was read, and how many commits have made it. */
export interface DecodedState extends Snapshot {
  readonly commits: number;
}

/** What one turn has made of one state: the patches that lead there, or its record. */
export interface StateStep {
  readonly name: string;
  /** The version of the class, which paths depend on. */
  readonly version: number;
  readonly commits: number;
  readonly change: { readonly patches: readonly StatePatch[] } | { readonly record: StateRecord };
}

/** What one turn has done. */
export interface TurnSteps {
  /** Everything stored went first. */
  readonly isDeleted: boolean;
  readonly states: readonly StateStep[];
}

type PackedPatch = readonly [op: StatePatch['op'], path: readonly unknown[], value: unknown];
type PackedStep = readonly [
  name: string,
  version: number,
  commits: number,
  change: readonly PackedPatch[] | StateRecord,
];

/**
 * Turns a state into a record and back, with name and version of its class.
 *
 * Guarantee: everything that `seal` lets through comes back equal, nested states included; a field that is new in the
 * class gets its default, an older version goes through `migrate`. Failure: `decode` throws on whatever it cannot read
 * as the class it is asked for. Cost: one visit of the state each way.
 */
export class StateCodec {
  // Without shared structures: each record can be read by a process that has seen no other. And without `toJSON`, which is a
  // key like any other here: beside one named `constructor` it would be called.
  private readonly packr = new Packr({
    moreTypes: true,
    useRecords: true,
    copyBuffers: true,
    useToJSON: false,
  });
  private readonly desk = new Uint8Array(DESK_BYTES);
  private readonly fieldNames = new WeakMap<object, readonly string[]>();
  /** Of what is being packed: how many values there were, and whether JSON has a form for all of them. */
  private values = 0;
  private isText = true;

  /**
   * The record of a sealed state, which so many `commits` have made. Nobody else has the bytes.
   *
   * @throws {StateSerializationError} when it is nested too deeply for that, which only a `deep` snapshot can be.
   */
  encode(definition: StateDefinition, { value }: Snapshot, commits = 1): StateRecord {
    try {
      this.values = 0;
      this.isText = true;
      const [name, version, fields, missing] = this.packState(definition, value);
      const packed = [FORMAT, name, version, fields, missing, commits];
      if (this.isText && this.values <= TEXT_VALUES) return JSON.stringify(packed);
      // It is a part of a large buffer that would be kept alive with it.
      return Buffer.from(this.packr.pack(packed));
    } catch (cause) {
      throw tooDeep(definition, cause);
    }
  }

  /**
   * The state in a record, as `definition` sees it today.
   *
   * @throws when the bytes are no record of that class, it is of a newer version, `migrate` fails or returns what cannot
   * be stored, or there is a nested state in it whose class this process does not know.
   */
  decode(definition: StateDefinition, record: string | Uint8Array): DecodedState {
    const isText = typeof record === 'string' || record[0] === TEXT_START;
    const content: unknown = isText ? JSON.parse(textOf(record)) : this.unpack(record);
    if (!Array.isArray(content) || content[0] !== FORMAT) throw new Error('it is no record of this format');
    const [, name, version, fields, missing, commits] = content as unknown[];
    if (name !== definition.name) throw new Error('it is a record of another class');
    const restored = isText ? fields : this.restore(fields);
    const state = this.unpackState(definition, version, restored, missing);
    const isAsWritten =
      version === definition.version && Object.keys(state).length === Object.keys(restored as object).length;
    // What is not of the record, of `migrate` or a default, may be the application's own, and is not to be frozen.
    const { value, binary, deep } =
      isAsWritten && isFlat(state, restored as object)
        ? { value: Object.freeze(state), binary: false, deep: false }
        : seal(state, { name: definition.name, copy: !isAsWritten });
    return { value, binary, deep, commits: Number(commits ?? 1) };
  }

  /** What turns have done, for who watches. @throws when it is nested too deeply for that. */
  encodeSteps(turns: readonly TurnSteps[]): Buffer {
    const packed = turns.map(({ isDeleted, states }) => [
      isDeleted,
      states.map((step) => this.packStep(step)),
    ]);
    return Buffer.from(this.packr.pack(packed));
  }

  /** @throws on whatever {@link encodeSteps} has not made. */
  decodeSteps(bytes: Uint8Array): TurnSteps[] {
    const turns = this.packr.unpack(bytes) as [boolean, PackedStep[]][];
    return turns.map(([isDeleted, states]) => ({
      isDeleted,
      states: states.map((step) => this.unpackStep(step)),
    }));
  }

  /**
   * Whether a `deep` snapshot can be written, and read again.
   *
   * @throws {StateSerializationError} when it cannot.
   */
  check(definition: StateDefinition, snapshot: Snapshot): void {
    const record = this.encode(definition, snapshot);
    try {
      this.decode(definition, record);
    } catch (cause) {
      throw tooDeep(definition, cause);
    }
  }

  private packStep({ name, version, commits, change }: StateStep): PackedStep {
    const packed =
      'record' in change
        ? change.record
        : change.patches.map(
            ({ op, path, value }) => [op, path.map((step) => this.pack(step)), this.pack(value)] as const,
          );
    return [name, version, commits, packed];
  }

  private unpackStep([name, version, commits, packed]: PackedStep): StateStep {
    if (!Array.isArray(packed)) return { name, version, commits, change: { record: packed as StateRecord } };
    const patches = (packed as PackedPatch[]).map(([op, path, value]) => ({
      op,
      path: path.map((step) => this.restore(step) as string | number),
      value: this.restore(value),
    }));
    return { name, version, commits, change: { patches } };
  }

  /**
   * MessagePack keeps a view with each buffer it reads: small records are all read from one that is its own. Nothing that
   * was read leads back to it, as bytes are copied.
   */
  private unpack(record: Uint8Array): unknown {
    const { length } = record;
    if (length > this.desk.length) return this.packr.unpack(record);
    this.desk.set(record);
    return this.packr.unpack(this.desk, { end: length });
  }

  private packState(definition: StateDefinition, state: object): PackedState {
    const { name, version } = definition;
    let missing = NONE;
    for (const field of this.fieldsOf(definition)) {
      if (!Object.hasOwn(state, field)) missing = [...missing, field];
    }
    return [name, version, this.packObject(state), missing];
  }

  private unpackState(
    definition: StateDefinition,
    version: unknown,
    fields: unknown,
    missing: unknown,
  ): object {
    if (!Number.isSafeInteger(version) || !Array.isArray(missing)) throw new Error('its header is damaged');
    if (typeof fields !== 'object' || fields === null) throw new Error('it has no fields');
    const state = upgrade(definition, fields as Record<string, unknown>, version as number);
    // A field that was deleted stays so; one that is new since the record was written has its default now.
    if (version === definition.version) {
      for (const field of missing) Reflect.deleteProperty(state, field as string);
    }
    return state;
  }

  private fieldsOf({ cls }: StateDefinition): readonly string[] {
    let names = this.fieldNames.get(cls);
    if (names === undefined) {
      names = Object.keys(new cls());
      this.fieldNames.set(cls, names);
    }
    return names;
  }

  private pack(value: unknown): unknown {
    this.values += 1;
    switch (typeof value) {
      case 'string':
        // UTF-8, which MessagePack is written in, has no form for half a surrogate pair.
        return value.isWellFormed() ? value : this.escaped(['text', Buffer.from(value, 'utf16le')]);
      case 'number':
        if (Object.is(value, -0)) return this.escaped(['-0']);
        this.isText &&= Number.isFinite(value);
        return value;
      case 'boolean':
        return value;
      case 'object':
        return value === null ? value : this.packContainer(value);
      default:
        this.isText = false;
        return value;
    }
  }

  private packContainer(value: object): unknown {
    if (Array.isArray(value)) return value.map((item) => this.pack(item));
    if (Object.getPrototypeOf(value) === Object.prototype) return this.packObject(value);
    this.isText = false;
    if (types.isMap(value)) return this.packMap(value);
    if (types.isSet(value)) return new Set(Array.from(value, (item) => this.pack(item)));
    // What is sealed is a subclass that only looks like a Date.
    if (types.isDate(value)) return new Date(value.getTime());
    if (types.isTypedArray(value)) return this.packTypedArray(value);
    // Of its prototype: it may have a field of that name.
    const { constructor } = Object.getPrototypeOf(value) as { constructor?: unknown };
    const definition = definitionOf(constructor);
    if (definition !== undefined && value instanceof definition.cls)
      return this.escaped(['state', this.packState(definition, value)]);
    return this.packObject(value);
  }

  private packObject(value: object): unknown {
    const packed: Record<string, unknown> = {};
    let isWellFormed = true;
    for (const key of Object.keys(value)) {
      packed[key] = this.pack((value as Record<string, unknown>)[key]);
      isWellFormed &&= key.isWellFormed();
    }
    if (isWellFormed) return packed;
    return this.escaped([
      'object',
      Object.entries(packed).map(([key, item]) => [this.pack(key), item] as const),
    ]);
  }

  private packMap(map: ReadonlyMap<unknown, unknown>): Map<unknown, unknown> {
    const entries = Array.from(map, ([key, item]) => [this.pack(key), this.pack(item)] as const);
    return map.has(ESCAPE) ? this.escaped(['map', entries]) : new Map(entries);
  }

  private packTypedArray(array: NodeJS.TypedArray): Map<unknown, unknown> {
    const bytes = Buffer.from(array.buffer, array.byteOffset, array.byteLength);
    return this.escaped(['array', [array[Symbol.toStringTag], bytes]]);
  }

  private escaped(content: Escaped): Map<unknown, unknown> {
    this.isText = false;
    return new Map([[ESCAPE, content]]);
  }

  private restore(value: unknown): unknown {
    if (typeof value !== 'object' || value === null) return value;
    if (Array.isArray(value)) {
      for (let index = 0; index < value.length; index += 1) value[index] = this.restore(value[index]);
      return value;
    }
    if (types.isMap(value)) return this.restoreMap(value);
    if (types.isSet(value)) return new Set(Array.from(value, (item) => this.restore(item)));
    if (types.isDate(value)) return value;
    const fields = value as Record<string, unknown>;
    for (const key of Object.keys(fields)) {
      const field = fields[key];
      if (typeof field === 'object') fields[key] = this.restore(field);
    }
    return fields;
  }

  private restoreMap(map: ReadonlyMap<unknown, unknown>): unknown {
    if (!map.has(ESCAPE)) {
      return new Map(Array.from(map, ([key, item]) => [this.restore(key), this.restore(item)]));
    }
    const [kind, content] = map.get(ESCAPE) as Escaped;
    switch (kind) {
      case '-0':
        return -0;
      case 'text':
        return Buffer.from(content).toString('utf16le');
      case 'array':
        return restoreTypedArray(...content);
      case 'object':
        return Object.fromEntries(
          content.map(([key, item]) => [this.restore(key) as string, this.restore(item)]),
        );
      case 'map':
        return new Map(content.map(([key, item]) => [this.restore(key), this.restore(item)]));
      case 'state':
        return this.restoreState(content);
      default:
        throw new Error('it holds what this version does not know');
    }
  }

  private restoreState([name, version, fields, missing]: PackedState): object {
    const definition = findDefinition(name);
    if (definition === undefined) throw new Error(`it holds a ${name}, and no class of that name is loaded`);
    return this.unpackState(definition, version, this.restore(fields), missing);
  }
}

function tooDeep({ name }: StateDefinition, cause: unknown): StateSerializationError {
  return new StateSerializationError(name, 'is nested too deeply to be stored.', { cause });
}

/** Whether a look at `state` can find nothing: it has the fields of its record, and each of them is a value. */
function isFlat(state: object, fields: object): boolean {
  for (const name of Object.keys(state))
    if (!Object.hasOwn(fields, name) || !isPrimitive((fields as Record<string, unknown>)[name])) return false;
  return true;
}

function textOf(record: string | Uint8Array): string {
  if (typeof record === 'string') return record;
  return Buffer.from(record.buffer, record.byteOffset, record.byteLength).toString();
}

function restoreTypedArray(type: string, bytes: Uint8Array): unknown {
  if (!TYPED_ARRAY.test(type)) throw new Error('it holds an array of an unknown type');
  const construct = (globalThis as unknown as Record<string, new (buffer: ArrayBufferLike) => unknown>)[type];
  if (construct === undefined)
    throw new Error(`it holds a ${type}, which this version of Node does not have`);
  // Bytes of its own, which start where any type of array may start.
  return new construct(Uint8Array.from(bytes).buffer);
}

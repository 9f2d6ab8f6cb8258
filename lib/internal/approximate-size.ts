import { types } from 'node:util';

/** So many items of a container are looked at; the others are taken to be like them. */
const ITEMS = 32;
/** So many values are looked at in all. */
const VALUES = 1_000;
/** What a number, a date, or a value that is not looked at counts for, in bytes. */
const SMALL_BYTES = 8;

/**
 * About how many bytes a value has when it is stored: texts, numbers, names of fields.
 *
 * Cost: bounded, whatever the value; of large ones a part is looked at.
 */
export function approximateSize(value: unknown): number {
  return Math.round(new Estimate().of(value));
}

class Estimate {
  private left = VALUES;

  of(value: unknown): number {
    this.left -= 1;
    if (typeof value === 'string') return value.length + 1;
    if (typeof value === 'bigint') return SMALL_BYTES;
    if (typeof value === 'number') return SMALL_BYTES;
    if (typeof value !== 'object' || value === null) return 1;
    if (this.left <= 0 || types.isDate(value)) return SMALL_BYTES;
    if (ArrayBuffer.isView(value)) return value.byteLength;
    if (Array.isArray(value)) return this.items(value, value.length);
    if (types.isSet(value)) return this.items(value, value.size);
    if (types.isMap(value))
      return this.items(value, value.size, ([key, item]) => this.of(key) + this.of(item));
    const fields = value as Record<string, unknown>;
    const keys = Object.keys(fields);
    return this.items(keys, keys.length, (key) => key.length + 1 + this.of(fields[key]));
  }

  private items<T>(items: Iterable<T>, count: number, sizeOf = (item: T): number => this.of(item)): number {
    let seen = 0;
    let bytes = 0;
    for (const item of items) {
      if (seen === ITEMS || this.left <= 0) break;
      bytes += sizeOf(item);
      seen += 1;
    }
    const each = seen === 0 ? SMALL_BYTES : bytes / seen;
    return 1 + each * count;
  }
}

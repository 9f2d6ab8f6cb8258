import type { DeadlineNode } from '../../internal/deadline-queue.js';
import { seal } from '../../internal/seal.js';
import type { Snapshot } from '../../internal/state-draft.js';
import { upgrade, type StateDefinition } from '../../internal/state-definition.js';

/**
 * One stored state, and the class, name and version it was written by. The fields of the snapshot are its own: what lives
 * long is one object less for each ident, and one less to be moved by the garbage collector after each turn.
 */
class MemoryRecord {
  /** How many commits have made it. */
  version = 1;
  /** The other states of its ident. */
  others: MemoryRecord | undefined = undefined;
  private value: object;
  private binary: boolean;
  private deep: boolean;

  constructor(
    public definition: StateDefinition,
    { value, binary, deep }: Snapshot,
  ) {
    this.value = value;
    this.binary = binary;
    this.deep = deep;
  }

  get snapshot(): Snapshot {
    return { value: this.value, binary: this.binary, deep: this.deep };
  }

  /** The state as `definition` sees it. @throws when that class cannot read it. */
  as(definition: StateDefinition): Snapshot {
    if (definition.cls === this.definition.cls) return this.snapshot;
    // Another class under the same name: the record takes the way of one that an older process has left on a server.
    const { name } = definition;
    const fields = Object.assign({}, seal(this.value, { name, copy: true, thaw: true }).value);
    return seal(upgrade(definition, fields as Record<string, unknown>, this.definition.version), {
      name,
      copy: true,
    });
  }

  replace(definition: StateDefinition, { value, binary, deep }: Snapshot): void {
    this.version += 1;
    this.definition = definition;
    this.value = value;
    this.binary = binary;
    this.deep = deep;
  }
}

/** Everything stored for one ident. Most idents have one state: the entry is its record, and others hang on it. */
export class MemoryEntry extends MemoryRecord implements DeadlineNode {
  previous: DeadlineNode | undefined = undefined;
  next: DeadlineNode | undefined = undefined;
  deadlineMs = 0;

  constructor(
    readonly ident: string,
    definition: StateDefinition,
    snapshot: Snapshot,
  ) {
    super(definition, snapshot);
  }

  /** How many states it holds. */
  get size(): number {
    let size = 1;
    for (let record = this.others; record !== undefined; record = record.others) size += 1;
    return size;
  }

  /** The names of its states. */
  names(): string[] {
    const names = [this.definition.name];
    for (let record = this.others; record !== undefined; record = record.others)
      names.push(record.definition.name);
    return names;
  }

  /** {@link names} without the list. */
  visitNames(visit: (name: string) => void): void {
    visit(this.definition.name);
    for (let record = this.others; record !== undefined; record = record.others)
      visit(record.definition.name);
  }

  find(name: string): MemoryRecord | undefined {
    if (this.definition.name === name) return this;
    let record = this.others;
    while (record !== undefined && record.definition.name !== name) record = record.others;
    return record;
  }

  /** The same states under another ident, to be changed there. */
  under(ident: string): MemoryEntry {
    const entry = new MemoryEntry(ident, this.definition, this.snapshot);
    entry.version = this.version;
    for (let record = this.others; record !== undefined; record = record.others) {
      const copy = new MemoryRecord(record.definition, record.snapshot);
      copy.version = record.version;
      copy.others = entry.others;
      entry.others = copy;
    }
    return entry;
  }

  /** Puts a snapshot in the place of the one before. True when there was none. */
  store(definition: StateDefinition, snapshot: Snapshot): boolean {
    const record = this.find(definition.name);
    if (record === undefined) {
      const added = new MemoryRecord(definition, snapshot);
      added.others = this.others;
      this.others = added;
      return true;
    }
    record.replace(definition, snapshot);
    return false;
  }
}

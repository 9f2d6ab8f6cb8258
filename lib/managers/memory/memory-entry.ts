import type { DeadlineNode } from '../../internal/deadline-queue.js';
import { seal } from '../../internal/seal.js';
import type { Snapshot } from '../../internal/state-draft.js';
import { upgrade, type StateDefinition } from '../../internal/state-definition.js';

/** One stored state: the snapshot, and the class, name and version it was written by. */
class MemoryRecord {
  /** How many commits have made it. */
  version = 1;
  /** It was found unreadable once, and that was said. */
  reportedUnreadable = false;

  constructor(
    public definition: StateDefinition,
    public snapshot: Snapshot,
    readonly next: MemoryRecord | undefined,
  ) {}

  /** The state as `definition` sees it. @throws when that class cannot read it. */
  as(definition: StateDefinition): Snapshot {
    if (definition.cls === this.definition.cls) return this.snapshot;
    // Another class under the same name: the record takes the way of one that an older process has left on a server.
    const { name } = definition;
    const fields = Object.assign({}, seal(this.snapshot.value, { name, copy: true, thaw: true }).value);
    return seal(upgrade(definition, fields as Record<string, unknown>, this.definition.version), { name });
  }
}

/** Everything stored for one ident. Most idents have one state: a chain of records is smaller than a map. */
export class MemoryEntry implements DeadlineNode {
  previous: DeadlineNode | undefined = undefined;
  next: DeadlineNode | undefined = undefined;
  deadlineMs = 0;
  /** How many states it holds. */
  size = 0;
  private first: MemoryRecord | undefined = undefined;

  constructor(readonly ident: string) {}

  /** The names of its states. */
  names(): string[] {
    const names: string[] = [];
    for (let record = this.first; record !== undefined; record = record.next)
      names.push(record.definition.name);
    return names;
  }

  find(name: string): MemoryRecord | undefined {
    let record = this.first;
    while (record !== undefined && record.definition.name !== name) record = record.next;
    return record;
  }

  /** Puts a snapshot in the place of the one before. True when there was none. */
  store(definition: StateDefinition, snapshot: Snapshot): boolean {
    const record = this.find(definition.name);
    if (record === undefined) {
      this.first = new MemoryRecord(definition, snapshot, this.first);
      this.size += 1;
      return true;
    }
    record.definition = definition;
    record.snapshot = snapshot;
    record.version += 1;
    record.reportedUnreadable = false;
    return false;
  }
}

import { createHash } from 'node:crypto';
import { hashIdent } from '../internal/ident.js';
import type { StateDefinition } from '../internal/state-definition.js';

/** How many unreadable records are remembered as said; the memory of them starts anew beyond that. */
const MAX_REPORTED = 1_000;

/** Says that a record cannot be read: once for each record, whoever meets it how often. */
export class UnreadableRecords {
  private readonly reported = new Set<string>();

  /** @param report Is given what to say, and told whose record it is. */
  constructor(private readonly report: (message: string, ident: string, name: string) => void) {}

  found(
    ident: string,
    { name, version }: StateDefinition,
    record: string | Uint8Array,
    error: unknown,
  ): void {
    const content = createHash('sha256').update(record).digest('base64');
    const key = `${hashIdent(ident)}/${name}/${version}/${content}`;
    if (this.reported.has(key)) return;
    if (this.reported.size >= MAX_REPORTED) this.reported.clear();
    this.reported.add(key);
    this.report(
      `The stored ${name} of ident #${hashIdent(ident)} cannot be read, it starts afresh: ` +
        (error instanceof Error ? error.message : String(error)),
      ident,
      name,
    );
  }
}

import type { RedisHold } from './redis-hold.js';
import { RedisKeys } from './redis-keys.js';

/**
 * The holds of this process, by the ident they are for and by the owner id that asks for them.
 *
 * Cost: an entry comes and goes with each turn, and a Map that has grown old takes its tables from old space each time
 * it grows or shrinks. Objects without a prototype do not.
 */
export class HoldTable {
  private readonly byIdent = Object.create(null) as Record<string, RedisHold>;
  private readonly byNumber = Object.create(null) as Record<number, RedisHold>;

  get all(): RedisHold[] {
    return Object.values(this.byIdent);
  }

  of(ident: string): RedisHold | undefined {
    return this.byIdent[ident];
  }

  /** Whose lock, or place on the wait list, `owner` names, before or after it was handed over. */
  ofOwner(owner: string): RedisHold | undefined {
    const hold = this.byNumber[RedisKeys.numberOf(owner)];
    // Anybody may publish, under any name.
    return hold?.id === RedisKeys.askedBy(owner) ? hold : undefined;
  }

  add(hold: RedisHold): void {
    this.byIdent[hold.ident] = hold;
    this.byNumber[hold.number] = hold;
  }

  remove(hold: RedisHold): void {
    if (this.byIdent[hold.ident] === hold) delete this.byIdent[hold.ident];
    delete this.byNumber[hold.number];
  }
}

import { hash } from 'node:crypto';

/** Hexadecimal digits of the hash in a key: 160 bits. Its first twelve are those that logs and events show. */
const HASH_LENGTH = 40;
/** What separates the parts of an owner id. */
const SEPARATOR = ':';
/** What stands before the one who handed the lock over. */
const HANDED_BY = '/';
/** What the names of processes begin with that keep locks between turns: their locks say so to whoever reads. */
export const LEASING = '~';

/** The keys of one ident. The braces put all of them into one slot of a cluster. */
export interface IdentKeys {
  /** The ident as Redis knows it: it is a credential, and whoever can read Redis must not be able to use it. */
  readonly hash: string;
  readonly lock: string;
  readonly wait: string;
  readonly states: string;
  /** The processes that watch states of the ident. */
  readonly watchers: string;
  /** Says that the expiry of the states has been noticed. */
  readonly noticed: string;
  /** Lives for the window that the last read has begun while the lock was kept between turns. */
  readonly read: string;
}

/** How the names in Redis are made. */
export class RedisKeys {
  /** What the channels of all processes start with. */
  readonly channelPrefix: string;

  constructor(private readonly prefix: string) {
    this.channelPrefix = `${prefix}wake:`;
  }

  ofIdent(ident: string): IdentKeys {
    return this.ofHash(hash('sha256', ident, 'hex').slice(0, HASH_LENGTH));
  }

  ofHash(identHash: string): IdentKeys {
    const states = `${this.prefix}{${identHash}}`;
    return {
      hash: identHash,
      lock: `${states}:lock`,
      wait: `${states}:wait`,
      states,
      watchers: `${states}:watch`,
      noticed: `${states}:noticed`,
      read: `${states}:read`,
    };
  }

  /** Matches the states of all idents, in the syntax of SCAN; `outerPrefix` is one that the client puts before keys. */
  statesPattern(outerPrefix: string): string {
    const literal = (outerPrefix + this.prefix).replaceAll(/[\\*?[\]]/g, String.raw`\$&`);
    return `${literal}{*}`;
  }

  /** The channel of a process. */
  channelOf(instance: string): string {
    return this.channelPrefix + instance;
  }

  /** An owner id: of one hold of one process, which can be told from it. */
  static owner(instance: string, number: number): string {
    return instance + SEPARATOR + String(number);
  }

  /** Of which hold of its process `owner` is; NaN for what is no owner id. */
  static numberOf(owner: string): number {
    return Number.parseInt(owner.slice(owner.indexOf(SEPARATOR) + 1), 10);
  }

  /** The owner id that asked for the lock that `owner` has: the same, unless the lock was handed over. */
  static askedBy(owner: string): string {
    const slash = owner.indexOf(HANDED_BY);
    return slash < 0 ? owner : owner.slice(0, slash);
  }
}

/** A commit of an ident that this process watches. */
export interface ChangedMessage {
  readonly type: 'changed';
  readonly hash: string;
  /** The commit before this one, and this one; empty where nothing was, or is, stored. */
  readonly before: string;
  readonly commit: string;
  /** Everything stored went first. */
  readonly isDeleted: boolean;
  /** What each turn has done, or, where nobody knew that somebody watches, names and records of what was written. */
  readonly content: { readonly steps: Buffer } | { readonly fields: readonly Buffer[] };
}

/** What another process tells this one, over its channel. The scripts write it. */
export type WakeMessage =
  | {
      /** The lock was given to the one who asked, under this owner id. */
      readonly type: 'handed';
      readonly hash: string;
      readonly owner: string;
      /** Somebody watches states of the ident. */
      readonly isWatched: boolean;
      /** Names and records of the states, in turn. */
      readonly fields: readonly Buffer[];
    }
  | ChangedMessage
  | {
      /** Somebody watches states of the ident whose lock this owner has. */
      readonly type: 'watched';
      readonly hash: string;
      readonly owner: string;
    }
  | {
      /** Somebody waits for the lock that this owner has. */
      readonly type: 'wanted';
      readonly hash: string;
      readonly owner: string;
    };

const LINE_END = 0x0a;

/** The message, or `undefined` when it is none of ours: anybody may publish to a channel. */
export function parseWake(message: Buffer): WakeMessage | undefined {
  const lineEnd = message.indexOf(LINE_END);
  const headEnd = lineEnd < 0 ? message.length : lineEnd;
  const [type, hash, ...words] = message.toString('latin1', 0, headEnd).split(' ');
  const body = message.subarray(Math.min(headEnd + 1, message.length));
  const owner = words[0];
  if (hash === undefined || owner === undefined) return undefined;
  switch (type) {
    case 'wanted':
    case 'watched':
      return { type, hash, owner };
    case 'handed': {
      const fields = splitFields(body, words.slice(2));
      return fields && { type, hash, owner, isWatched: words[1] === '1', fields };
    }
    case 'changed': {
      const [before, commit, deleted, ...lengths] = words as [string, string, string, ...string[]];
      const fields = splitFields(body, lengths);
      if (commit === undefined || fields === undefined) return undefined;
      const content = lengths.length === 0 && body.length > 0 ? { steps: body } : { fields };
      return { type, hash, before, commit, isDeleted: deleted === '1', content };
    }
    default:
      return undefined;
  }
}

function splitFields(body: Buffer, lengths: readonly string[]): Buffer[] | undefined {
  const fields: Buffer[] = [];
  let start = 0;
  for (const length of lengths) {
    if (length === '') continue;
    const end = start + Number(length);
    if (!(end <= body.length)) return undefined;
    fields.push(body.subarray(start, end));
    start = end;
  }
  return fields;
}

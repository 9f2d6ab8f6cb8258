/** What another process tells this one, over its channel. The scripts write it. */
export type WakeMessage =
  | {
      /** The lock was given to the one who asked, under this owner id. */
      readonly type: 'handed';
      readonly hash: string;
      readonly owner: string;
      /** Names and records of the states, in turn. */
      readonly fields: readonly Buffer[];
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
  const head = message.toString('latin1', 0, lineEnd < 0 ? message.length : lineEnd);
  const [type, hash, owner, ...lengths] = head.split(' ');
  if (hash === undefined || owner === undefined) return undefined;
  if (type === 'wanted') return { type, hash, owner };
  if (type !== 'handed') return undefined;
  const fields: Buffer[] = [];
  let start = lineEnd + 1;
  for (const length of lengths) {
    if (length === '') continue;
    const end = start + Number(length);
    if (!(end <= message.length)) return undefined;
    fields.push(message.subarray(start, end));
    start = end;
  }
  return { type, hash, owner, fields };
}

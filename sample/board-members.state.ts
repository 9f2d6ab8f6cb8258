import { State } from 'nestjs-state';

const MAX_MEMBERS = 48;
const COLOURS = 12;

export interface Member {
  name: string;
  /** A number of the page's palette. */
  colour: number;
  /** The process that its connection is with. */
  server: string;
}

/**
 * Who is in a room. Kept under an ident of its own, since it changes all the time: the board of a room expires when nobody
 * draws, however many look at it.
 */
@State('board.members')
export class BoardMembersState {
  /** When each process was heard of last. One that was killed takes its members with it. */
  servers: Record<string, number> = {};
  members: Record<string, Member> = {};

  /** The member `id`, known from before or new; `undefined` when the room is full. */
  join(id: string, name: string, server: string): Member | undefined {
    const others = Object.values(this.members);
    const known = this.members[id];
    if (known === undefined && others.length >= MAX_MEMBERS) return undefined;
    const member: Member = { name, colour: known?.colour ?? leastUsedColour(others), server };
    this.members[id] = member;
    return member;
  }

  /** Unless it has connected to another process in the meantime. */
  leave(id: string, server: string): void {
    if (this.members[id]?.server === server) delete this.members[id];
  }

  /** A process says that it lives, and who is with it. Whoever is with one that has not said so for a while is gone. */
  beat(server: string, own: ReadonlyMap<string, Member>, nowMs: number, silentAfterMs: number): void {
    this.servers[server] = nowMs;
    for (const [name, beatAtMs] of Object.entries(this.servers))
      if (beatAtMs < nowMs - silentAfterMs) delete this.servers[name];
    for (const [id, member] of Object.entries(this.members))
      if (this.servers[member.server] === undefined) delete this.members[id];
    // After an idle time, or an eviction, nothing is known any more.
    for (const [id, member] of own) this.members[id] ??= { ...member };
  }
}

function leastUsedColour(members: readonly Member[]): number {
  const uses = Array.from({ length: COLOURS }, () => 0);
  for (const { colour } of members) uses[colour] = (uses[colour] ?? 0) + 1;
  return uses.indexOf(Math.min(...uses));
}

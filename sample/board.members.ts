import { randomBytes } from 'node:crypto';
import { Inject, Injectable, type OnModuleDestroy, type OnModuleInit } from '@nestjs/common';
import { STATE_OPTIONS, StateManager, StateToken, type ResolvedStateOptions } from 'nestjs-state';
import { BoardMembersState, type Member } from './board-members.state.js';
import type { Visitor } from './board.messages.js';

const BEAT_MS = 5_000;
/** So many beats that are missed are the end of a process. */
const SILENT_BEATS = 3;

/** Who is in which room, over all processes. */
@Injectable()
export class BoardMembers implements OnModuleInit, OnModuleDestroy {
  private readonly server = randomBytes(6).toString('hex');
  /** The connections with this process, by room: whose they are, and who that is. */
  private readonly rooms = new Map<string, Map<Visitor, Member>>();
  private readonly beatMs: number;
  private timer: NodeJS.Timeout | undefined;

  constructor(
    private readonly states: StateManager,
    @Inject(STATE_OPTIONS) { expirationMs }: ResolvedStateOptions,
  ) {
    this.beatMs = Math.min(BEAT_MS, expirationMs / SILENT_BEATS);
  }

  tokenOf(room: string): StateToken<BoardMembersState> {
    return new StateToken(`members:${room}`, BoardMembersState);
  }

  onModuleInit(): void {
    this.timer = setInterval(() => {
      for (const room of this.rooms.keys()) void this.beat(room).catch(ignore);
    }, this.beatMs);
  }

  onModuleDestroy(): void {
    clearInterval(this.timer);
  }

  /** `undefined` when the room is full. */
  async join(visitor: Visitor): Promise<Member | undefined> {
    const { room, id, name } = visitor;
    const member = await this.states.modifyState(this.tokenOf(room), (state) => {
      state.servers[this.server] = Date.now();
      return state.join(id, name, this.server);
    });
    if (member === undefined || visitor.hasLeft) return member;
    let here = this.rooms.get(room);
    if (here === undefined) this.rooms.set(room, (here = new Map()));
    here.set(visitor, member);
    return member;
  }

  async leave(visitor: Visitor): Promise<void> {
    const { room, id } = visitor;
    visitor.hasLeft = true;
    const here = this.rooms.get(room);
    here?.delete(visitor);
    if (here?.size === 0) this.rooms.delete(room);
    // It may have connected again before the end of the old connection was seen.
    if (here !== undefined && Array.from(here.keys()).some((other) => other.id === id)) return;
    // What cannot be said now, other processes find out.
    await this.states.modifyState(this.tokenOf(room), (state) => state.leave(id, this.server)).catch(ignore);
  }

  private beat(room: string): Promise<void> {
    const own = new Map(Array.from(this.rooms.get(room) ?? [], ([{ id }, member]) => [id, member]));
    return this.states.modifyState(this.tokenOf(room), (state) =>
      state.beat(this.server, own, Date.now(), this.beatMs * SILENT_BEATS),
    );
  }
}

/** The next beat tries again, and the manager says already what is wrong with the store. */
function ignore(): void {}

import type { Clock } from '../../internal/clock.js';
import type { StateCodec, StateRecord } from '../../internal/state-codec.js';
import type { WatchedState } from '../watch/watched-state.js';
import type { LockCommands } from './lock-commands.js';
import type { IdentKeys, RedisKeys } from './redis-keys.js';
import type { ChangedMessage } from './wake-message.js';
import { WatchRoom, type WatchRoomHost } from './watch-room.js';

/** The time between two looks at the store, in milliseconds: how long a message that was lost is missed at most. */
const LOOK_EVERY_MS = 1_000;
/** With many states that are watched, looks come less often: so many milliseconds for each. */
const LOOK_SHARE_MS = 2;
/** How long a process is told of commits that does not look again, in milliseconds, and in times between two looks. */
const WATCH_MS = 30_000;
const WATCH_LOOKS = 3;
/** How much later than its end a window is looked at, in milliseconds: Redis deletes after the millisecond is over. */
const EXPIRED_MS = 2;

export interface RedisWatchesOptions {
  readonly clock: Clock;
  readonly codec: StateCodec;
  readonly commands: LockCommands;
  readonly keys: RedisKeys;
  readonly instance: string;
  readonly expirationMs: number;
  /** Settles when everything is in the store that turns of this process have acknowledged. */
  flush(ident: string): Promise<void> | undefined;
  onUnreadable(room: WatchRoom, record: StateRecord, error: unknown): void;
}

/** The rooms of one ident: one for each state that is watched. */
interface WatchedIdent {
  readonly keys: IdentKeys;
  readonly rooms: Set<WatchRoom>;
}

/**
 * Has this process told of the commits of what is watched here, whoever makes them.
 *
 * The script that commits sends a message to each process that watches the ident; nobody else pays for it. Each room looks at
 * the store about once a second, which keeps its process among those who are told, finds what was missed, and what has
 * expired. Takes no lock and keeps nothing alive.
 */
export class RedisWatches implements WatchRoomHost {
  readonly codec: StateCodec;
  private readonly idents = new Map<string, WatchedIdent>();
  private readonly byHash = new Map<string, WatchedIdent>();
  private readonly rooms = new Map<WatchedState, WatchRoom>();

  constructor(private readonly options: RedisWatchesOptions) {
    this.codec = options.codec;
  }

  nowMs(): number {
    return this.options.clock.nowMs();
  }

  watched(ident: string, state: WatchedState): void {
    const room = new WatchRoom(ident, state, this);
    this.rooms.set(state, room);
    let watched = this.idents.get(ident);
    if (watched === undefined) {
      watched = { keys: this.options.keys.ofIdent(ident), rooms: new Set() };
      this.idents.set(ident, watched);
      this.byHash.set(watched.keys.hash, watched);
    }
    watched.rooms.add(room);
    this.check(room);
  }

  /** Somebody else watches it as well. What is committed by now may still be on its way. */
  joined(state: WatchedState): void {
    const room = this.rooms.get(state);
    if (room === undefined) return;
    room.isJoined = true;
    this.check(room);
  }

  unwatched(ident: string, state: WatchedState): void {
    const room = this.rooms.get(state);
    const watched = this.idents.get(ident);
    if (room === undefined || watched === undefined) return;
    room.isClosed = true;
    room.timer?.cancel();
    this.rooms.delete(state);
    watched.rooms.delete(room);
    if (watched.rooms.size > 0) return;
    this.idents.delete(ident);
    this.byHash.delete(watched.keys.hash);
    // If that fails, the server forgets by itself.
    this.options.commands.unwatch(watched.keys, this.options.instance).catch(() => undefined);
  }

  /** A commit of an ident was told. */
  hear(message: ChangedMessage): void {
    const { expirationMs } = this.options;
    for (const room of this.byHash.get(message.hash)?.rooms ?? []) {
      room.hear(message);
      if (expirationMs < LOOK_EVERY_MS && !room.isChecking) this.checkIn(room, expirationMs);
    }
  }

  checkSoon(room: WatchRoom): void {
    if (!room.isChecking) this.checkIn(room, 0);
  }

  onUnreadable(room: WatchRoom, record: StateRecord, error: unknown): void {
    this.options.onUnreadable(room, record, error);
  }

  stop(): void {
    for (const room of this.rooms.values()) {
      room.isClosed = true;
      room.timer?.cancel();
    }
    this.rooms.clear();
    this.idents.clear();
    this.byHash.clear();
  }

  /** The longest time between two looks of a room. */
  private get lookEveryMs(): number {
    return Math.max(LOOK_EVERY_MS, this.rooms.size * LOOK_SHARE_MS);
  }

  private check(room: WatchRoom): void {
    if (room.isClosed || room.isChecking) return;
    room.timer?.cancel();
    room.timer = undefined;
    room.checking();
    void this.look(room);
  }

  private async look(room: WatchRoom): Promise<void> {
    const { commands, instance, flush } = this.options;
    const { keys } = this.idents.get(room.ident) as WatchedIdent;
    let lifeMs = -1;
    room.lookEveryMs = this.lookEveryMs;
    const watchMs = Math.max(WATCH_MS, WATCH_LOOKS * room.lookEveryMs);
    try {
      // What is not stored is none of those who watch: they are shown what is.
      await flush(room.ident)?.catch(() => undefined);
      // Whoever has left meanwhile would have the place back that was given up.
      if (room.isClosed) return;
      const look = await commands.watch(keys, instance, room.known, watchMs);
      if (room.isClosed) return;
      ({ lifeMs } = look);
      room.found(look);
    } catch (error) {
      if (room.isClosed) return;
      room.failed(error);
    }
    const { heldUntilMs } = room;
    if (room.isJoined) this.check(room);
    else if (heldUntilMs !== undefined) this.checkIn(room, heldUntilMs - this.nowMs());
    else if (lifeMs >= 0) this.checkIn(room, lifeMs);
    else this.checkIn(room, LOOK_EVERY_MS);
  }

  /** Sees to it that the store is looked at by then. Those who ask more often than that do not put it off. */
  private checkIn(room: WatchRoom, delayMs: number): void {
    if (room.isClosed) return;
    const waitMs = Math.min(delayMs + EXPIRED_MS, room.lookEveryMs);
    const dueMs = this.nowMs() + waitMs;
    if (room.timer !== undefined && room.dueMs <= dueMs) return;
    room.timer?.cancel();
    room.dueMs = dueMs;
    room.timer = this.options.clock.startTimer(() => this.check(room), waitMs);
  }
}

import type { Clock } from '../../internal/clock.js';
import type { StateCodec } from '../../internal/state-codec.js';
import type { StateDefinition } from '../../internal/state-definition.js';
import type { Snapshot } from '../../internal/state-draft.js';
import type { StateError } from '../../state.errors.js';
import type { StatesMade } from '../held-states.js';
import type { ManagedTurn } from '../managed-turn.js';
import type { LockCommands } from './lock-commands.js';
import type { OpenWork } from './open-work.js';
import type { RedisHold } from './redis-hold.js';

/** What a hold needs of its manager. Nothing that it is told throws: the next one has to hear of his turn too. */
export interface HoldHost {
  readonly clock: Clock;
  readonly codec: StateCodec;
  readonly commands: LockCommands;
  readonly lockExpirationMs: number;
  readonly expirationMs: number;
  /** How long the lock is kept between turns; 0 for not at all. */
  readonly leaseHoldMs: number;
  /** Whether a caller of this process has the turn of the ident, or is about to have it. */
  isClaimed(ident: string): boolean;
  /** Whether somebody in this process watches states of the ident. */
  isWatched(ident: string): boolean;
  /** The lock was got: it has to be renewed from now on. */
  held(hold: RedisHold): void;
  /** The next caller starts with a new hold. */
  ended(hold: RedisHold): void;
  /** The turns of a hold that has given the lock up are about to be answered, and nobody else has the lock. */
  answered(hold: RedisHold): void;
  /**
   * The lock was given up, and with it the window of the states starts: what is left of it, in milliseconds. `isHanded`:
   * another process has it now.
   */
  released(hold: RedisHold, windowMs: number, isHanded: boolean): void;
  /** The hold has ended, and it is not this process that has given the lock up: the states may live longer than it knows. */
  unsettled(hold: RedisHold): void;
  /** A commit that covers the turn has been answered, or needs no answer. */
  committed(hold: RedisHold, made: StatesMade): void;
  /** The lock went, or the store fell silent, while the code of `turn` was running. */
  turnLost(turn: ManagedTurn, error: StateError): void;
  /** The same for turns that had ended well and have not been stored. */
  commitLost(hold: RedisHold, turn: ManagedTurn | undefined, error: StateError): void;
  /** Turns that were answered under `leaseHold` are not stored and will not be. */
  acknowledgedLost(hold: RedisHold, count: number, begun: BegunStates): void;
  /** Whether it wants to know what such turns began from. */
  readonly tellsOfLost: boolean;
  /** What must have its end before the store is closed. */
  readonly underWay: OpenWork;
}

/** What turns began from: of each state what was there before the first of them. */
export type BegunStates = ReadonlyMap<StateDefinition, Snapshot>;

import { STATE_ERROR_CODES, StateError } from '../state.errors.js';
import type { StateToken } from '../state.token.js';
import { JoinedTurn } from './joined-turn.js';
import { additionTimeout } from './lock-errors.js';
import type { LockWait } from './locking-state.manager.js';
import type { ManagedTurn } from './managed-turn.js';
import { frameOf, findOpenTurn, openIdents, runInFrame } from './turn-scope.js';

/** What is needed of the manager whose turns they are. */
export interface SeveralTurnsHost {
  /** Opens a turn that joins nothing. `ownSignal` is the one that the turn itself is to heed. */
  openAlone(
    ident: string,
    label: string | undefined,
    wait: LockWait,
    ownSignal: AbortSignal | undefined,
  ): ManagedTurn | Promise<ManagedTurn>;
  /** Waits for `event` as long as `wait` allows; then it rejects with what `late` returns, or with the reason of the signal. */
  during<T>(event: Promise<T>, wait: LockWait, late: () => Error): Promise<T>;
}

/** One order for everybody: two who lock the same idents cannot wait for each other. */
export function inLockOrder(idents: readonly string[]): string[] {
  return [...new Set(idents)].toSorted();
}

/**
 * The turns of one call over several idents: its own, or those of the open turn that it was called in.
 *
 * Own ones have a leader, and are committed with it. In an open turn nothing is committed before that turn is: locks that
 * it did not have yet are added to it.
 */
export class SeveralTurns {
  private constructor(
    private readonly leader: ManagedTurn | undefined,
    private readonly turns: ReadonlyMap<string, ManagedTurn | JoinedTurn>,
  ) {}

  /** Locks whatever `tokens` name, in order, and gives all of it back if one lock is not to be had. */
  static async open(
    host: SeveralTurnsHost,
    tokens: readonly StateToken<unknown>[],
    label: string | undefined,
    wait: LockWait,
  ): Promise<SeveralTurns> {
    const idents = inLockOrder(tokens.map(({ ident }) => ident));
    const name = label ?? [...new Set(tokens.map(({ definition }) => definition.name))].join(', ');
    if (outerOf(host, idents, name) !== undefined) {
      await addMissing(host, idents, name, wait);
      const joined = idents.map((ident) => {
        const turn = findOpenTurn(host, ident);
        if (turn === undefined) throw ended(name);
        return [ident, new JoinedTurn(turn, wait.signal)] as const;
      });
      return new SeveralTurns(undefined, new Map(joined));
    }
    assertInOrder(idents, openIdents(host), name);
    const turns = await lockAll(host, idents, name, wait, wait.signal);
    const [leader, ...companions] = turns;
    if (companions.length > 0) leader?.lead(companions);
    return new SeveralTurns(leader, new Map(turns.map((turn) => [turn.ident, turn])));
  }

  /** Whether it is for an outer turn to commit them. */
  get isJoined(): boolean {
    return this.leader === undefined;
  }

  /** The draft that `token` names; the same one each time. */
  draft(token: StateToken<unknown>): object {
    return (this.turns.get(token.ident) as ManagedTurn | JoinedTurn).draft(token.definition);
  }

  /** Calls `run` so that it is inside of these turns. */
  run<R>(run: () => R): R {
    const { leader } = this;
    return leader === undefined ? run() : runInFrame(frameOf(leader), run, undefined, undefined);
  }

  /** Commits, unless that is for an outer turn to do; returns what `result` is to the caller. */
  async settle<R>(result: R): Promise<R> {
    const { leader } = this;
    if (leader === undefined) {
      for (const turn of this.turns.values()) turn.prepare(undefined);
      return result;
    }
    const settled = leader.prepare(result);
    await leader.store();
    return settled;
  }

  /** Forgets what was changed; an outer turn cannot be committed any more then. */
  abandon(error: unknown): Promise<void> | undefined {
    for (const turn of this.turns.values()) turn.abandon(error);
    return this.leader?.whenReleased();
  }
}

/** Adds those of `idents` that are missing to the open turn that has the others. */
export async function addMissing(
  host: SeveralTurnsHost,
  idents: readonly string[],
  name: string,
  wait: LockWait,
): Promise<void> {
  for (;;) {
    const outer = outerOf(host, idents, name);
    if (outer === undefined) throw ended(name);
    const missing = idents.filter((ident) => findOpenTurn(host, ident) === undefined);
    if (missing.length === 0) return;
    const open = openIdents(host);
    const { addition } = outer;
    if (addition === undefined) {
      assertInOrder(missing, open, name);
      await add(host, outer, missing, name, wait);
      return;
    }
    // Two who add at the same time would each hold what the other one's wait is for: one after the other.
    assertInOrder(addition.idents, open, name);
    const further = missing.filter((ident) => !addition.idents.includes(ident));
    assertInOrder(further, [...open, ...addition.idents], name);
    await host.during(addition.done, wait, () => additionTimeout(name, wait.timeoutMs));
  }
}

async function add(
  host: SeveralTurnsHost,
  outer: ManagedTurn,
  idents: readonly string[],
  name: string,
  wait: LockWait,
): Promise<void> {
  // The signal of this call ends its wait, but has nothing to say any more when the outer turn is committed.
  const locking = lockAll(host, idents, name, wait, undefined);
  outer.addition = { idents, done: locking.catch(() => undefined) };
  let turns: ManagedTurn[];
  try {
    turns = await locking;
  } finally {
    outer.addition = undefined;
  }
  leadOrAbandon(outer, turns, name);
}

/** Adds turns to an open one, unless it has ended while they were waited for. */
export function leadOrAbandon(outer: ManagedTurn, turns: readonly ManagedTurn[], name: string): void {
  if (outer.isRunning) {
    outer.lead(turns);
  } else {
    for (const turn of turns) turn.abandon();
    throw ended(name);
  }
}

/** Opens a turn for each of `idents`, in that order. When one lock is not to be had those before it are given back. */
export async function lockAll(
  host: SeveralTurnsHost,
  idents: readonly string[],
  name: string,
  wait: LockWait,
  ownSignal: AbortSignal | undefined,
): Promise<ManagedTurn[]> {
  const turns: ManagedTurn[] = [];
  try {
    for (const ident of idents) {
      const turn = host.openAlone(ident, name, wait, ownSignal);
      turns.push(turn instanceof Promise ? await turn : turn);
    }
    return turns;
  } catch (error) {
    for (const turn of turns) turn.abandon();
    await Promise.all(turns.map((turn) => turn.whenReleased()));
    throw error;
  }
}

/** The open turn that some of `idents` are of. @throws {StateError} when they are of two that end one after the other. */
export function outerOf(
  host: SeveralTurnsHost,
  idents: readonly string[],
  name: string,
): ManagedTurn | undefined {
  let outer: ManagedTurn | undefined;
  for (const ident of idents) {
    const turn = findOpenTurn(host, ident);
    if (turn === undefined) continue;
    const leader = turn.leader ?? turn;
    if (outer !== undefined && outer !== leader)
      throw new StateError(
        STATE_ERROR_CODES.nestedTurns,
        `${name} cannot be changed together: the states are of two open turns, one inside the other, which are committed ` +
          'one after the other. Open one turn with `modifyStates` for all of them instead.',
      );
    outer = leader;
  }
  return outer;
}

/** @throws {StateError} unless all of `wanted` are locked after all of `held`. */
export function assertInOrder(wanted: readonly string[], held: readonly string[], name: string): void {
  if (wanted.every((ident) => held.every((other) => other < ident))) return;
  throw new StateError(
    STATE_ERROR_CODES.nestedTurns,
    `${name} was not locked: an open turn around this call has an ident that stands behind one of these in the order of ` +
      'locks (that of their characters), and two such calls could wait for each other. Name all idents in the outer call.',
  );
}

export function ended(name: string): StateError {
  return new StateError(
    STATE_ERROR_CODES.turnEnded,
    `The turn that ${name} was to join has ended meanwhile.`,
  );
}

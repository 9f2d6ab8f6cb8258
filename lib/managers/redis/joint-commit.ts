import { LockExpiredError, StateStoreUnavailableError, type StateError } from '../../state.errors.js';
import type { ManagedTurn, TurnChanges } from '../managed-turn.js';
import type { HoldHost } from './hold-host.js';
import type { JointDraft, RedisHold } from './redis-hold.js';

/** What a turn over several idents has changed of one of them. */
export interface JointShare {
  readonly hold: RedisHold;
  readonly turn: ManagedTurn;
  readonly changes: TurnChanges;
}

/**
 * Stores what one turn has changed over several idents: all of it or nothing, where they are on one server.
 *
 * No further turn enters any of the holds before that is done. First each of them stores what other turns have left with a
 * commit of its own, so that what fails there drags nobody else along; then one script looks at all locks and writes. On a
 * cluster all locks are looked at, then there is a script for each ident, and the first failure ends it; states that move to
 * another ident are stored there before they are deleted.
 */
export class JointCommit {
  constructor(
    private readonly host: Pick<HoldHost, 'clock' | 'commands' | 'committed'>,
    private readonly shares: readonly JointShare[],
  ) {}

  /**
   * The holds have been seen to when it settles.
   *
   * @throws {LockExpiredError} when one of the locks is lost. @throws {StateStoreUnavailableError} when the store is
   * silent, or only a part is stored.
   */
  async store(): Promise<void> {
    const { host, shares } = this;
    const { isJoint } = host.commands;
    const stored: JointDraft[] = [];
    for (const { hold } of shares) hold.reserve();
    try {
      await this.settle();
      if (!isJoint) throwFirst(await Promise.allSettled(shares.map(({ hold, turn }) => hold.verify(turn))));
      for (const group of isJoint ? [shares] : heirsFirst(shares).map((share) => [share])) {
        stored.push(...(await this.storeGroup(group)));
      }
    } catch (error) {
      for (const { hold } of shares) hold.reopen();
      await Promise.all(shares.map(({ hold }) => hold.whenReleased()));
      throw stored.length === 0 ? error : partlyStored(stored.length, shares.length, error);
    } finally {
      // Last, as everything that is said: a subscriber, or a logger, that throws must leave no hold behind.
      for (const { lock, made } of stored) host.committed(lock, made);
    }
  }

  private async settle(): Promise<void> {
    do await Promise.all(this.shares.map(({ hold, turn }) => hold.settle(turn)));
    while (this.shares.some(({ hold }) => hold.isUnsettled));
  }

  private async storeGroup(shares: readonly JointShare[]): Promise<readonly JointDraft[]> {
    const { clock, commands } = this.host;
    // What cannot be stored has to show before the first of the locks is given up.
    const drafts = shares.map(({ hold, turn, changes }) => hold.draw(turn, changes));
    const [{ lock: first, turn }] = drafts as [JointDraft];
    const id = drafts.some(({ writes }) => writes.fields.length > 0) ? first.nextCommitId() : '';
    const sentAtMs = clock.nowMs();
    for (const { lock, isKept } of drafts) if (!isKept) lock.end();
    let verdicts: Awaited<ReturnType<typeof commands.joint>>;
    try {
      verdicts = await commands.joint(id, drafts);
    } catch (error) {
      for (const { lock } of drafts) lock.failJointly(error as StateError);
      throw error;
    }
    if (verdicts === undefined) {
      const outcomes = await Promise.allSettled(drafts.map((draft) => draft.lock.lostJointly(draft)));
      throwFirst(outcomes, LockExpiredError);
      throw first.lostBy(turn);
    }
    for (const [index, draft] of drafts.entries()) draft.lock.storedJointly(draft, sentAtMs, verdicts[index]);
    return drafts;
  }
}

function heirsFirst(shares: readonly JointShare[]): JointShare[] {
  const isHeir = ({ changes }: JointShare): boolean => changes.from !== undefined;
  return [...shares.filter(isHeir), ...shares.filter((share) => !isHeir(share))];
}

function throwFirst(
  outcomes: readonly PromiseSettledResult<unknown>[],
  type: new (message: string) => Error = Error,
): void {
  for (const outcome of outcomes)
    if (outcome.status === 'rejected' && outcome.reason instanceof type) throw outcome.reason;
}

function partlyStored(stored: number, all: number, cause: unknown): StateStoreUnavailableError {
  return new StateStoreUnavailableError(
    `Of the ${all} idents of a turn ${stored} are stored and the others are not, or may not be: on a cluster they are ` +
      'stored one after the other.',
    { cause },
  );
}

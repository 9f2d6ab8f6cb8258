import type { CallHandler } from '@nestjs/common';
import type { Observer, Subscriber, Subscription } from 'rxjs';
import { runInFrame, type TurnFrame } from '../managers/turn-scope.js';
import type { HandlerCommit, HandlerTurns } from './handler-turns.js';
import type { RequestTurn } from './request-turn.js';
import { ClientLeftError } from './transport-errors.js';

/**
 * `waiting` for the turns; `running`: the turns are open; `committing`: the store has not answered yet; `ended`: they are
 * over, a stream may go on.
 */
type Phase = 'waiting' | 'running' | 'committing' | 'ended';

/**
 * One run of a handler, from the claim of its turns to the end of its answer.
 *
 * Guarantee: whichever way it ends, and whether or not anybody still listens, its turns end exactly once.
 */
export class HandlerRun implements Observer<unknown> {
  private phase: Phase = 'waiting';
  private hasLeft = false;
  private hasFailed = false;
  private waiting: AbortController | undefined;
  private turns: HandlerTurns | undefined;
  private handler: Subscription | undefined;
  /** What the handler has said while its first value was being committed. */
  private readonly backlog: (() => void)[] = [];

  constructor(
    private readonly request: RequestTurn,
    private readonly callHandler: CallHandler,
    private readonly subscriber: Subscriber<unknown>,
    private readonly explain: (error: unknown) => Promise<unknown>,
  ) {}

  start(): void {
    try {
      const turns = this.request.claim(() => (this.waiting = new AbortController()));
      if (turns instanceof Promise) this.later(turns, (claimed) => this.enter(claimed));
      else this.enter(turns);
    } catch (error) {
      this.error(error);
    }
  }

  /** The caller has stopped listening, or everything has been said. */
  leave(): void {
    this.hasLeft = true;
    if (this.phase === 'waiting') this.waiting?.abort(new ClientLeftError());
    else if (this.phase === 'ended') this.handler?.unsubscribe();
    // A handler that runs keeps its turns. If it takes so long that a lock is lost, nothing is left to wait for.
    else if (this.phase === 'running') this.turns?.whenLost(() => this.handler?.unsubscribe());
  }

  next(value: unknown): void {
    if (this.hasFailed) return undefined;
    if (this.phase === 'committing') this.backlog.push(() => this.next(value));
    else if (this.phase === 'ended') this.subscriber.next(value);
    else this.commit(value, (settled) => this.subscriber.next(settled));
    return undefined;
  }

  complete(): void {
    // The failure is being reported: that is the answer.
    if (this.hasFailed) return;
    if (this.phase === 'committing') this.backlog.push(() => this.complete());
    else if (this.phase === 'ended') this.subscriber.complete();
    else this.commit(undefined, () => this.subscriber.complete());
  }

  error(error: unknown): void {
    // Two answers are one too many: that of the commit comes first.
    if (this.phase === 'committing') {
      this.backlog.push(() => this.error(error));
      return;
    }
    this.turns?.rollback();
    this.phase = 'ended';
    this.hasFailed = true;
    this.handler?.unsubscribe();
    void this.report(error);
  }

  private enter(turns: HandlerTurns): void {
    this.turns = turns;
    const frame = this.request.enter(turns);
    if (frame instanceof Promise) this.later(frame, (entered) => this.run(entered));
    else this.run(frame);
  }

  private run(frame: TurnFrame): void {
    // Nobody waits any more, and nothing has been done yet.
    if (this.hasLeft) return this.turns?.rollback();
    this.phase = 'running';
    const handled = runInFrame(frame, () => this.callHandler.handle(), undefined, undefined);
    this.handler = handled.subscribe(this);
    // It may have been over before there was a subscription to end.
    if (this.hasFailed) this.handler.unsubscribe();
    return undefined;
  }

  /** Commits, and says so, or fails. */
  private commit(value: unknown, say: (settled: unknown) => void): void {
    let commit: HandlerCommit | undefined;
    try {
      commit = this.turns?.commit(value);
    } catch (error) {
      return this.error(error);
    }
    const end = (): void => {
      this.phase = 'ended';
      say(commit?.result);
      if (this.hasLeft) this.handler?.unsubscribe();
    };
    if (commit?.stored === undefined) return end();
    this.phase = 'committing';
    void this.whenStored(commit.stored, end);
    return undefined;
  }

  private async whenStored(stored: Promise<void>, end: () => void): Promise<void> {
    try {
      await stored;
    } catch (error) {
      this.phase = 'ended';
      this.error(error);
      return;
    }
    end();
    // What the handler has said meanwhile, in its order.
    for (const goOn of this.backlog.splice(0)) goOn();
  }

  private async report(error: unknown): Promise<void> {
    this.subscriber.error(await this.explain(error));
  }

  /** Whatever fails on the way ends the run. */
  private later<T>(promise: Promise<T>, goOn: (value: T) => void): void {
    promise.then(goOn).catch((error: unknown) => this.error(error));
  }
}

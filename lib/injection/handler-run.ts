import { Logger, StreamableFile, type CallHandler } from '@nestjs/common';
import type { Observable, Observer, Subscriber, Subscription, Unsubscribable } from 'rxjs';
import { surviving } from '../managers/turn-result.js';
import { runInFrame, type TurnFrame } from '../managers/turn-scope.js';
import type { HandlerTurns } from './handler-turns.js';
import type { RequestTurn } from './request-turn.js';
import { ClientLeftError } from './transport-errors.js';

/**
 * `waiting` for the turns; `running`: the turns are open; `committing`: the store has not answered yet; `ended`: they are
 * over, a stream may go on.
 */
type Phase = 'waiting' | 'running' | 'committing' | 'ended';

/** What of a handler ends its turns: its first value, or that it has none. */
type Said = 'value' | 'completion';

/**
 * One run of a handler, from the claim of its turns to the end of its answer.
 *
 * Guarantee: whichever way it ends, and whether or not anybody still listens, its turns end exactly once.
 */
export class HandlerRun implements Observer<unknown>, Unsubscribable {
  private phase: Phase = 'waiting';
  private hasLeft = false;
  private hasFailed = false;
  private waiting: AbortController | undefined = undefined;
  private turns: HandlerTurns | undefined = undefined;
  private frame: TurnFrame | undefined = undefined;
  private handler: Subscription | undefined = undefined;
  /** What the handler has said while its first value was being committed. */
  private backlog: (() => void)[] | undefined = undefined;

  constructor(
    private readonly request: RequestTurn,
    private readonly callHandler: CallHandler,
    private readonly subscriber: Subscriber<unknown>,
  ) {}

  start(): void {
    try {
      const turns = this.request.claim();
      if (turns === undefined) this.wait();
      else this.enter(turns);
    } catch (error) {
      this.error(error);
    }
  }

  /** The caller has stopped listening, or everything has been said. */
  unsubscribe(): void {
    this.hasLeft = true;
    if (this.phase === 'waiting') this.waiting?.abort(new ClientLeftError());
    else if (this.phase === 'ended') this.stopHandler();
    // A handler that runs keeps its turns. If it takes so long that a lock is lost, nothing is left to wait for.
    else if (this.phase === 'running') this.turns?.whenLost(() => this.stopHandler());
  }

  next(value: unknown): void {
    if (this.hasFailed) return;
    if (this.phase === 'ended') this.subscriber.next(value);
    else if (this.phase === 'committing') this.putOff(() => this.next(value));
    else this.commit('value', value);
  }

  complete(): void {
    // The failure is being reported: that is the answer.
    if (this.hasFailed) return;
    if (this.phase === 'ended') this.subscriber.complete();
    else if (this.phase === 'committing') this.putOff(() => this.complete());
    else this.commit('completion', undefined);
  }

  error(error: unknown): void {
    // Two answers are one too many: that of the commit comes first.
    if (this.phase === 'committing') {
      this.putOff(() => this.error(error));
      return;
    }
    const failure = this.phase === 'running' ? surviving(error) : error;
    this.turns?.rollback();
    this.end();
    this.hasFailed = true;
    this.stopHandler();
    void this.report(failure);
  }

  private wait(): void {
    this.waiting = new AbortController();
    this.later(this.request.acquire(this.waiting), (turns) => this.enter(turns));
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
    this.frame = frame;
    const handled = runInFrame(frame, handle, this.callHandler, undefined);
    this.handler = handled.subscribe(this);
    // It may have been over before there was a subscription to end.
    if (this.hasFailed) this.stopHandler();
    return undefined;
  }

  /** Commits, and says so, or fails. */
  private commit(said: Said, value: unknown): void {
    const { turns } = this;
    let result: unknown;
    let stored: Promise<void> | undefined;
    try {
      if (turns !== undefined) ({ result, stored } = turns.commit(value));
    } catch (error) {
      close(value);
      return this.error(error);
    }
    if (stored === undefined) return this.say(said, result);
    this.phase = 'committing';
    void this.sayWhenStored(stored, said, result);
    return undefined;
  }

  private async sayWhenStored(stored: Promise<void>, said: Said, result: unknown): Promise<void> {
    try {
      await stored;
    } catch (error) {
      close(result);
      this.end();
      this.error(error);
      return;
    }
    this.say(said, result);
    // What the handler has said meanwhile, in its order.
    for (const goOn of this.backlog?.splice(0) ?? []) goOn();
  }

  private say(said: Said, result: unknown): void {
    this.end();
    if (this.hasLeft) close(result);
    if (said === 'value') this.subscriber.next(result);
    else this.subscriber.complete();
    if (this.hasLeft) this.stopHandler();
  }

  private end(): void {
    this.phase = 'ended';
    if (this.frame !== undefined) this.frame.isOver = true;
  }

  /** Nobody listens to it any more. What it throws at that has no caller: it must not end the process. */
  private stopHandler(): void {
    try {
      this.handler?.unsubscribe();
    } catch (error) {
      new Logger('StateInterceptor').error('Ending what a handler has returned failed.', error);
    }
  }

  private putOff(goOn: () => void): void {
    (this.backlog ??= []).push(goOn);
  }

  private async report(error: unknown): Promise<void> {
    let told = error;
    try {
      told = await this.request.explain(error);
    } catch {
      // It cannot even be looked at: then it is for others to say something.
    }
    this.subscriber.error(told);
  }

  /** Whatever fails on the way ends the run. */
  private later<T>(promise: Promise<T>, goOn: (value: T) => void): void {
    promise.then(goOn).catch((error: unknown) => this.error(error));
  }
}

function handle(callHandler: CallHandler): Observable<unknown> {
  return callHandler.handle();
}

/** Nobody will read it, and close what it reads from. */
function close(result: unknown): void {
  if (result instanceof StreamableFile) result.getStream().destroy();
}

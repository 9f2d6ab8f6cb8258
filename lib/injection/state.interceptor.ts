import { AsyncResource } from 'node:async_hooks';
import {
  Inject,
  Injectable,
  type CallHandler,
  type ExecutionContext,
  type NestInterceptor,
} from '@nestjs/common';
import { HttpAdapterHost } from '@nestjs/core';
import { Observable, type Subscriber, type Subscription } from 'rxjs';
import { runInFrame } from '../managers/turn-scope.js';
import { RequestStates } from './request-states.js';
import type { RequestTurn } from './request-turn.js';
import { toTransportError } from './transport-errors.js';

/**
 * Runs a handler inside its turn and ends the turn: committed before the first byte of the answer when the handler
 * succeeds, rolled back when it fails. `@InjectState()` binds it, inside every other interceptor.
 *
 * The turn ends with the first value, the completion or the error of the handler; a stream goes on without the lock.
 * When the caller stops listening (client gone, outer `timeout()`) the turn still lasts until then, because the
 * handler is still running.
 */
@Injectable()
export class StateInterceptor implements NestInterceptor {
  constructor(
    @Inject(RequestStates) private readonly states: RequestStates,
    @Inject(HttpAdapterHost) private readonly adapterHost: HttpAdapterHost,
  ) {}

  intercept(context: ExecutionContext, next: CallHandler): Observable<unknown> {
    const turn = this.states.injectedTurnOf(context);
    if (turn === undefined) return next.handle();
    // Nest subscribes later, in the context of the first interceptor: what outer interceptors put into theirs (a
    // transaction, a trace) is here now, and the handler has to find it.
    const asyncContext = new AsyncResource('StateInterceptor');
    return new Observable((subscriber) => {
      const run = new HandlerRun(turn, next, subscriber, (error) =>
        toTransportError(error, context, this.adapterHost.httpAdapter),
      );
      asyncContext.runInAsyncScope(() => void run.start());
      return () => run.leave();
    });
  }
}

/** One run of a handler, from the claim of its turn to the end of its answer. */
class HandlerRun {
  private phase: 'claiming' | 'running' | 'ended' = 'claiming';
  private hasLeft = false;
  private handler: Subscription | undefined;

  constructor(
    private readonly turn: RequestTurn,
    private readonly next: CallHandler,
    private readonly subscriber: Subscriber<unknown>,
    private readonly explain: (error: unknown) => Promise<unknown>,
  ) {}

  async start(): Promise<void> {
    try {
      const claiming = this.turn.claim();
      if (claiming !== undefined) await claiming;
    } catch (error) {
      return this.fail(error);
    }
    try {
      const frame = await this.turn.enter();
      // Nobody waits any more and nothing has been done yet.
      if (this.hasLeft) return this.turn.rollback();
      this.phase = 'running';
      const handled = runInFrame(frame, () => this.next.handle(), undefined, undefined);
      this.handler = handled.subscribe({
        next: (value) => this.emit(value),
        error: (error: unknown) => this.error(error),
        complete: () => this.complete(),
      });
    } catch (error) {
      this.turn.rollback();
      return this.fail(error);
    }
  }

  /** The caller has stopped listening, or everything has been said. */
  leave(): void {
    this.hasLeft = true;
    if (this.phase === 'claiming') this.turn.cancel();
    else if (this.phase === 'ended') this.handler?.unsubscribe();
    // A handler that runs keeps its turn. If it takes so long that the lock is lost, nothing is left to wait for.
    else this.turn.whenLost(() => this.handler?.unsubscribe());
  }

  private emit(value: unknown): void {
    if (this.phase === 'ended') return this.subscriber.next(value);
    this.phase = 'ended';
    let settled: unknown;
    try {
      settled = this.turn.commit(value);
    } catch (error) {
      this.handler?.unsubscribe();
      return void this.fail(error);
    }
    if (this.hasLeft) this.handler?.unsubscribe();
    return this.subscriber.next(settled);
  }

  private error(error: unknown): void {
    if (this.phase === 'running') this.turn.rollback();
    this.phase = 'ended';
    void this.fail(error);
  }

  private complete(): void {
    if (this.phase === 'running') {
      this.phase = 'ended';
      try {
        this.turn.commit(undefined);
      } catch (error) {
        return void this.fail(error);
      }
    }
    this.subscriber.complete();
  }

  private async fail(error: unknown): Promise<void> {
    this.subscriber.error(await this.explain(error));
  }
}

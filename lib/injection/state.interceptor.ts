import { AsyncResource } from 'node:async_hooks';
import {
  Inject,
  Injectable,
  type CallHandler,
  type ExecutionContext,
  type NestInterceptor,
} from '@nestjs/common';
import { Observable } from 'rxjs';
import { HandlerRun } from './handler-run.js';
import { RequestStates } from './request-states.js';

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
  constructor(@Inject(RequestStates) private readonly states: RequestStates) {}

  intercept(context: ExecutionContext, next: CallHandler): Observable<unknown> {
    const turn = this.states.injectedTurnOf(context);
    // Bound more than once, it is the outermost one that ends the turn.
    if (turn === undefined || turn.isEntered) return next.handle();
    // Nest subscribes later, in the context of the first interceptor: what outer interceptors put into theirs (a
    // transaction, a trace) is here now, and the handler has to find it.
    const asyncContext = new AsyncResource('StateInterceptor');
    return new Observable((subscriber) => {
      const run = new HandlerRun(turn, next, subscriber);
      asyncContext.runInAsyncScope(run.start, run);
      return run;
    });
  }
}

import { Inject, Injectable, type CanActivate, type ExecutionContext } from '@nestjs/common';
import { RequestStates } from './request-states.js';

/**
 * Finds the ident of a request and takes the lock of its states. `@InjectState()` binds it, after every other guard;
 * bind it yourself to have the lock taken earlier. However often it is bound, a request opens its turn once.
 *
 * Guarantee: a turn whose handler is not reached in the same event-loop turn is given back, and opened again by the
 * interceptor should the handler be reached later: no lock stays behind a guard that refuses or takes long.
 *
 * Failure: 401 without a token, 400 for a malformed one, 503 with `Retry-After` when the lock is not to be had; a
 * `WsException` or `RpcException` with the same on other transports.
 */
@Injectable()
export class StateGuard implements CanActivate {
  constructor(@Inject(RequestStates) private readonly states: RequestStates) {}

  canActivate(context: ExecutionContext): boolean | Promise<boolean> {
    try {
      const opening = this.states.injectedTurnOf(context)?.open();
      return (
        opening === undefined ||
        opening.then(() => true).catch((error: unknown) => this.refuse(error, context))
      );
    } catch (error) {
      return this.refuse(error, context);
    }
  }

  private async refuse(error: unknown, context: ExecutionContext): Promise<never> {
    throw await this.states.explain(error, context);
  }
}

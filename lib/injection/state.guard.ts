import { Inject, Injectable, type CanActivate, type ExecutionContext } from '@nestjs/common';
import { HttpAdapterHost } from '@nestjs/core';
import { RequestStates } from './request-states.js';
import { toTransportError } from './transport-errors.js';

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
  constructor(
    @Inject(RequestStates) private readonly states: RequestStates,
    @Inject(HttpAdapterHost) private readonly adapterHost: HttpAdapterHost,
  ) {}

  async canActivate(context: ExecutionContext): Promise<boolean> {
    try {
      await this.states.injectedTurnOf(context)?.open();
      return true;
    } catch (error) {
      throw await toTransportError(error, context, this.adapterHost.httpAdapter);
    }
  }
}

import {
  BadRequestException,
  HttpException,
  ServiceUnavailableException,
  UnauthorizedException,
  type ExecutionContext,
} from '@nestjs/common';
import type { AbstractHttpAdapter } from '@nestjs/core';
import {
  InvalidStateTokenError,
  LockTimeoutError,
  StateError,
  StateManagerClosedError,
  StateStoreUnavailableError,
  TooManyWaitersError,
} from '../state.errors.js';

const RETRY_AFTER_SECONDS = 1;
/** nginx's status for a client that closed the connection: nobody will read it, logs will. */
const CLIENT_CLOSED_REQUEST = 499;

/** The client has left while its request was waiting for the lock. */
export class ClientLeftError extends HttpException {
  constructor() {
    super('The client left while it was waiting for its state.', CLIENT_CLOSED_REQUEST);
  }
}

interface Answer {
  statusCode: 400 | 401 | 503;
  message: string;
}

/**
 * What a client is told of `error`: an HttpException, a WsException or an RpcException for those outcomes that are not
 * the handler's own. Everything else is returned as it is. The client learns the code, the cause has the details.
 */
export async function toTransportError(
  error: unknown,
  context: ExecutionContext,
  adapter: AbstractHttpAdapter | undefined,
): Promise<unknown> {
  // To a gateway an HttpException is an unknown error, and each client that leaves would be one in the log.
  if (error instanceof ClientLeftError && context.getType() === 'ws') {
    const { WsException } = await import('@nestjs/websockets');
    return withCause(new WsException(error.message), error);
  }
  const answer = error instanceof StateError ? answerTo(error) : undefined;
  if (answer === undefined) return error;
  const { code } = error as StateError;
  const body = { ...answer, code };
  const options = { cause: error };
  // Optional peers: a static import would keep an application without them from starting.
  if (context.getType() === 'ws') {
    const { WsException } = await import('@nestjs/websockets');
    return withCause(new WsException({ status: 'error', ...body, retryAfter: retryAfter(answer) }), error);
  }
  if (context.getType() === 'rpc') {
    const { RpcException } = await import('@nestjs/microservices');
    return withCause(new RpcException({ status: 'error', ...body, retryAfter: retryAfter(answer) }), error);
  }
  if (answer.statusCode === 400) return new BadRequestException({ ...body, error: 'Bad Request' }, options);
  if (answer.statusCode === 401)
    return new UnauthorizedException({ ...body, error: 'Unauthorized' }, options);
  if (context.getType() === 'http') {
    const response: unknown = context.switchToHttp().getResponse();
    // An answer that has begun (server-sent events) has no more headers.
    if (adapter?.isHeadersSent(response) === false)
      adapter.setHeader(response, 'Retry-After', String(RETRY_AFTER_SECONDS));
  }
  return new ServiceUnavailableException({ ...body, error: 'Service Unavailable' }, options);
}

function answerTo(error: StateError): Answer | undefined {
  if (error instanceof InvalidStateTokenError) {
    if (error.reason === 'malformed') return { statusCode: 400, message: 'The state token is malformed.' };
    if (error.reason === 'missing') return { statusCode: 401, message: 'A state token is required.' };
    if (error.reason === 'forged') return { statusCode: 401, message: 'The state token is not valid.' };
    return undefined;
  }
  if (error instanceof LockTimeoutError || error instanceof TooManyWaitersError) {
    return { statusCode: 503, message: 'The state is busy. Try again.' };
  }
  if (error instanceof StateStoreUnavailableError || error instanceof StateManagerClosedError) {
    return { statusCode: 503, message: 'The state is not available. Try again.' };
  }
  return undefined;
}

function retryAfter(answer: Answer): number | undefined {
  return answer.statusCode === 503 ? RETRY_AFTER_SECONDS : undefined;
}

function withCause<E extends Error>(exception: E, cause: unknown): E {
  exception.cause = cause;
  return exception;
}

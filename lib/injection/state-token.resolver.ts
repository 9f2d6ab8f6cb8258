import { Inject, Injectable, type ExecutionContext } from '@nestjs/common';
import { HttpAdapterHost } from '@nestjs/core';
import { STATE_OPTIONS } from '../state.constants.js';
import { InvalidStateTokenError } from '../state.errors.js';
import type { ResolvedStateOptions } from '../state.options.js';
import { ClientTokens, requestOf } from './client-tokens.js';
import { identOfSocket } from './handshake.js';

/**
 * Finds the ident of whoever makes a request. Extend it, or give `token.resolver`, to take the ident from elsewhere,
 * such as the user a guard of yours has authenticated.
 *
 * HTTP: the header, else the cookie, else (`onMissing: 'issue'`) a new random one, set as a cookie; with a secret, a cookie
 * that is not signed is replaced then, and one that an older secret has signed is set anew. Gateways: what
 * `StateSession.regenerate()` has given to the socket, else `handshake.auth.token`, else header or cookie of the handshake. Microservices: there is nothing to go by, so it
 * refuses.
 */
@Injectable()
export class StateTokenResolver {
  private readonly tokens: ClientTokens;

  constructor(
    @Inject(STATE_OPTIONS) private readonly options: ResolvedStateOptions,
    @Inject(HttpAdapterHost) adapterHost: HttpAdapterHost,
  ) {
    this.tokens = new ClientTokens(options.token, adapterHost);
  }

  /**
   * The ident of the request in `context`. Called once for each request.
   *
   * @throws {InvalidStateTokenError} `missing` without a token, `malformed` for one that is no usable ident, `forged`
   * for one without a valid signature.
   */
  resolve(context: ExecutionContext): string | Promise<string> {
    switch (context.getType()) {
      case 'http':
        return this.fromRequest(context);
      case 'ws':
        return this.fromHandshake(context.switchToWs().getClient<object>());
      default:
        throw new InvalidStateTokenError(
          'missing',
          `A request of type '${context.getType()}' carries no state token: give @InjectState({ ident }) or \`token.resolver\`.`,
        );
    }
  }

  private fromRequest(context: ExecutionContext): string {
    const found = this.tokens.inRequest(requestOf(context));
    if (found?.source === 'header') return this.tokens.verify(found.token).ident;
    if (found !== undefined) return this.fromCookie(context, found.token);
    const { header, cookie, onMissing } = this.options.token;
    if (onMissing === 'issue') return this.tokens.issue(context);
    throw new InvalidStateTokenError(
      'missing',
      `No state token: neither header ${header} nor cookie ${cookie} is there.`,
    );
  }

  private fromCookie(context: ExecutionContext, token: unknown): string {
    const { tokens, options } = this;
    try {
      const { ident, isOutdated } = tokens.verify(token);
      if (isOutdated) tokens.setCookie(context, ident);
      return ident;
    } catch (error) {
      // A visitor cannot get rid of an HttpOnly cookie from before there was a secret: it would lock him out for ever.
      // Who sends a header knows what he sends, and is told that it is not valid.
      const isReplaced =
        error instanceof InvalidStateTokenError && tokens.isSigned && options.token.onMissing === 'issue';
      if (isReplaced) return tokens.issue(context);
      throw error;
    }
  }

  private fromHandshake(client: object): string {
    const given = identOfSocket(client);
    if (given !== undefined) return given;
    const found = this.tokens.inHandshake(client);
    if (found !== undefined) return this.tokens.verify(found.token).ident;
    throw new InvalidStateTokenError(
      'missing',
      'No state token: the handshake has none in auth.token, header or cookie.',
    );
  }
}

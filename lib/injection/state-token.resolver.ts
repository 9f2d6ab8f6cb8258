import { randomBytes } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import { Inject, Injectable, type ExecutionContext } from '@nestjs/common';
import { HttpAdapterHost } from '@nestjs/core';
import { parse as parseCookies, serialize as serializeCookie } from 'cookie';
import { assertIdent, MAX_IDENT_LENGTH } from '../internal/ident.js';
import { STATE_OPTIONS } from '../state.constants.js';
import { InvalidStateTokenError } from '../state.errors.js';
import type { ResolvedStateOptions } from '../state.options.js';
import { handshakeOf } from './handshake.js';
import { TokenSignature } from './token-signature.js';

/** Bytes of randomness in an issued ident: 192 bits, beyond guessing. */
const IDENT_BYTES = 24;
/** A signature in base64url and its dot. */
const SIGNATURE_LENGTH = 44;

interface HttpRequest {
  headers: IncomingHttpHeaders;
  protocol?: string;
}

/**
 * Finds the ident of whoever makes a request. Extend it, or give `token.resolver`, to take the ident from elsewhere,
 * such as the user a guard of yours has authenticated.
 *
 * HTTP: the header, else the cookie, else (`onMissing: 'issue'`) a new random one, set as a cookie. Gateways:
 * `handshake.auth.token`, else header or cookie of the handshake. Microservices: there is nothing to go by, so it
 * refuses.
 */
@Injectable()
export class StateTokenResolver {
  private readonly signature: TokenSignature | undefined;

  constructor(
    @Inject(STATE_OPTIONS) private readonly options: ResolvedStateOptions,
    @Inject(HttpAdapterHost) private readonly adapterHost: HttpAdapterHost,
  ) {
    const { secrets } = options.token;
    if (secrets.length > 0) this.signature = new TokenSignature(secrets);
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
    const request = context.switchToHttp().getRequest<HttpRequest>();
    const token = this.fromHeaders(request.headers);
    if (token !== undefined) return this.identOf(token);
    const { header, cookie, onMissing } = this.options.token;
    if (onMissing === 'issue') return this.issue(context, request);
    throw new InvalidStateTokenError(
      'missing',
      `No state token: neither header ${header} nor cookie ${cookie} is there.`,
    );
  }

  private fromHandshake(client: object): string {
    const handshake = handshakeOf(client);
    const auth = handshake?.auth as { token?: unknown } | undefined;
    const token = auth?.token ?? (handshake && this.fromHeaders(handshake.headers));
    if (token !== undefined) return this.identOf(token);
    throw new InvalidStateTokenError(
      'missing',
      'No state token: the handshake has none in auth.token, header or cookie.',
    );
  }

  private fromHeaders(headers: IncomingHttpHeaders): unknown {
    const { header, cookie } = this.options.token;
    return (
      headers[header] ?? (headers.cookie === undefined ? undefined : parseCookies(headers.cookie)[cookie])
    );
  }

  private identOf(token: unknown): string {
    if (this.signature === undefined || typeof token !== 'string') {
      assertIdent(token);
      return token;
    }
    // Nobody is made to hash more than a token can be long.
    const ident =
      token.length > MAX_IDENT_LENGTH + SIGNATURE_LENGTH ? undefined : this.signature.verify(token);
    if (ident === undefined)
      throw new InvalidStateTokenError('forged', 'The state token has no valid signature.');
    assertIdent(ident);
    return ident;
  }

  private issue(context: ExecutionContext, request: HttpRequest): string {
    const ident = randomBytes(IDENT_BYTES).toString('base64url');
    const cookie = serializeCookie(this.options.token.cookie, this.signature?.sign(ident) ?? ident, {
      httpOnly: true,
      sameSite: 'lax',
      path: '/',
      secure: request.protocol === 'https',
    });
    const { httpAdapter } = this.adapterHost;
    httpAdapter.appendHeader?.(context.switchToHttp().getResponse(), 'Set-Cookie', cookie);
    return ident;
  }
}

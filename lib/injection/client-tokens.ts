import { randomBytes } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import type { ExecutionContext } from '@nestjs/common';
import type { HttpAdapterHost } from '@nestjs/core';
import { parse as parseCookies, serialize as serializeCookie } from 'cookie';
import { assertIdent, MAX_IDENT_LENGTH } from '../internal/ident.js';
import { InvalidStateTokenError } from '../state.errors.js';
import type { ResolvedStateOptions } from '../state.options.js';
import { handshakeOf, identOfSocket } from './handshake.js';
import { TokenSignature, type VerifiedToken } from './token-signature.js';

/** Bytes of randomness in an issued ident: 192 bits, beyond guessing. */
const IDENT_BYTES = 24;
/** A signature in base64url and its dot. */
const SIGNATURE_LENGTH = 44;
/** How many cookies of its name are looked at. */
const MOST_COOKIES = 8;
/** Where a request keeps the ident that was made for it. */
const ISSUED = Symbol('nestjs-state:issued');

/** How the ident of a client came with its request: `issued` was made for it, `socket` was given to its socket since. */
export type TokenSource = 'header' | 'cookie' | 'auth' | 'socket' | 'issued';

interface FoundToken {
  readonly token: unknown;
  readonly source: 'header' | 'cookie' | 'auth';
}

interface HttpRequest {
  headers: IncomingHttpHeaders;
  protocol?: string;
  [ISSUED]?: string;
}

interface HttpResponse {
  /** Of Node's response, which Express extends and Fastify wraps. */
  headersSent?: boolean;
  raw?: { headersSent?: boolean };
  /** Of Fastify. */
  sent?: boolean;
  /** Both frameworks have them; another adapter may not. */
  getHeader?(name: string): unknown;
  removeHeader?(name: string): unknown;
}

/** The tokens that clients carry: found in requests, verified, signed, and set as cookies. */
export class ClientTokens {
  private readonly signature: TokenSignature | undefined;

  constructor(
    private readonly options: ResolvedStateOptions['token'],
    private readonly adapterHost: HttpAdapterHost,
  ) {
    if (options.secrets.length > 0) this.signature = new TokenSignature(options.secrets);
  }

  get isSigned(): boolean {
    return this.signature !== undefined;
  }

  newIdent(): string {
    return randomBytes(IDENT_BYTES).toString('base64url');
  }

  /** What the client has to send to be `ident`. */
  tokenOf(ident: string): string {
    return this.signature?.sign(ident) ?? ident;
  }

  /** The token that came with an HTTP request: the header, before the cookie. */
  inRequest({ headers }: Pick<HttpRequest, 'headers'>): FoundToken | undefined {
    const sent = headers[this.options.header];
    if (sent !== undefined) return { token: sent, source: 'header' };
    const token = headers.cookie === undefined ? undefined : this.inCookies(headers.cookie);
    return token === undefined ? undefined : { token, source: 'cookie' };
  }

  /**
   * The cookie of the client: the first one that is valid. A browser also sends those of another path or domain, which may
   * be from before there was a secret, or be set by a neighbour, and nothing that is answered takes them away.
   */
  private inCookies(header: string): string | undefined {
    const { cookie } = this.options;
    const first = parseCookies(header)[cookie];
    if (first === undefined || header.indexOf(cookie) === header.lastIndexOf(cookie)) return first;
    const all = header.split(';').map((each) => parseCookies(each)[cookie]);
    const some = all.filter((token) => token !== undefined).slice(0, MOST_COOKIES);
    return some.find((token) => this.isValid(token)) ?? first;
  }

  private isValid(token: string): boolean {
    try {
      this.verify(token);
      return true;
    } catch {
      return false;
    }
  }

  /** The token that a gateway's client came with. */
  inHandshake(client: object): FoundToken | undefined {
    const handshake = handshakeOf(client);
    const token = (handshake?.auth as { token?: unknown } | undefined)?.token;
    if (token !== undefined && token !== null) return { token, source: 'auth' };
    return handshake && this.inRequest(handshake);
  }

  /** @throws {InvalidStateTokenError} `malformed` or `forged`. */
  verify(token: unknown): VerifiedToken {
    if (this.signature === undefined || typeof token !== 'string') {
      assertIdent(token);
      return { ident: token, isOutdated: false };
    }
    // Nobody is made to hash more than a token can be long.
    const isTooLong = token.length > MAX_IDENT_LENGTH + SIGNATURE_LENGTH;
    const verified = isTooLong ? undefined : this.signature.verify(token);
    if (verified === undefined)
      throw new InvalidStateTokenError('forged', 'The state token has no valid signature.');
    assertIdent(verified.ident);
    return verified;
  }

  /** A new ident for who has made an HTTP request, set as a cookie; the same one for every handler of the request. */
  issue(context: ExecutionContext): string {
    const known = requestOf(context)[ISSUED];
    if (known !== undefined) return known;
    const ident = this.newIdent();
    this.setCookie(context, ident);
    this.noteIssued(context, ident);
    return ident;
  }

  /** From now on `ident` is the one that was made for the request. */
  noteIssued(context: ExecutionContext, ident: string): void {
    Reflect.defineProperty(requestOf(context), ISSUED, { value: ident, configurable: true });
  }

  /** How `ident` came with the request, or `undefined` where it is not the client's token that says so. */
  sourceOf(context: ExecutionContext, ident: string): TokenSource | undefined {
    const type = context.getType();
    if (type !== 'http' && type !== 'ws') return undefined;
    const client = type === 'ws' ? context.switchToWs().getClient<object>() : undefined;
    if (client !== undefined && identOfSocket(client) === ident) return 'socket';
    if (client === undefined && requestOf(context)[ISSUED] === ident) return 'issued';
    const found = client === undefined ? this.inRequest(requestOf(context)) : this.inHandshake(client);
    try {
      return found !== undefined && this.verify(found.token).ident === ident ? found.source : undefined;
    } catch {
      return undefined;
    }
  }

  /** Whether the answer to an HTTP request can still bring a cookie. */
  canSetCookie(context: ExecutionContext): boolean {
    const response = responseOf(context);
    return (response.raw ?? response).headersSent !== true && response.sent !== true;
  }

  /** Lets the answer bring the token of `ident`, in place of any other one. */
  setCookie(context: ExecutionContext, ident: string): void {
    this.putCookie(context, this.tokenOf(ident));
  }

  /** Lets the answer take the cookie from the client. */
  clearCookie(context: ExecutionContext): void {
    this.putCookie(context, '', { expires: new Date(0) });
  }

  private putCookie(context: ExecutionContext, value: string, life: { expires?: Date } = {}): void {
    const { cookie, sameSite, secure, path, domain } = this.options;
    const line = serializeCookie(cookie, value, {
      httpOnly: true,
      sameSite,
      path,
      secure: secure === 'auto' ? requestOf(context).protocol === 'https' : secure,
      ...(domain !== undefined && { domain }),
      ...life,
    });
    const response = responseOf(context);
    const { httpAdapter } = this.adapterHost;
    // Of two cookies of one name clients may take either.
    const lines = linesOf(response.getHeader?.('Set-Cookie'));
    const others = lines.filter((other) => !other.startsWith(`${cookie}=`));
    if (others.length < lines.length) response.removeHeader?.('Set-Cookie');
    for (const each of others.length < lines.length ? [...others, line] : [line])
      httpAdapter.appendHeader?.(response, 'Set-Cookie', each);
  }
}

/** The request that an HTTP handler is called for. */
export function requestOf(context: ExecutionContext): HttpRequest {
  // What `switchToHttp()` says, which makes three functions to say it.
  return context.getArgByIndex<HttpRequest>(0);
}

function responseOf(context: ExecutionContext): HttpResponse {
  return context.getArgByIndex<HttpResponse>(1);
}

function linesOf(header: unknown): string[] {
  if (header === undefined || header === null) return [];
  return (Array.isArray(header) ? header : [header]).map(String);
}

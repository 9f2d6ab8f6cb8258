import type { IncomingHttpHeaders } from 'node:http';

/** What a client said when it opened its socket. */
export interface Handshake {
  readonly headers: IncomingHttpHeaders;
  /** What a socket.io client passes as `auth`. */
  readonly auth?: unknown;
}

const UPGRADE_HANDSHAKE = Symbol('nestjs-state:upgrade-handshake');

/** Where a socket keeps the ident that its client was given since it connected. */
const GIVEN_IDENT = Symbol('nestjs-state:given-ident');

/** The ident that the client of that socket was given since it connected. */
export function identOfSocket(client: object): string | undefined {
  return (client as { [GIVEN_IDENT]?: string })[GIVEN_IDENT];
}

/** From now on the client of that socket is `ident`, whatever it said when it connected. */
export function giveIdent(client: object, ident: string): void {
  // Not enumerable: it is a credential, and must not be in what is logged of a socket.
  Object.defineProperty(client, GIVEN_IDENT, { value: ident, configurable: true });
}

interface GatewayPrototype {
  handleConnection?: (client: object, ...rest: unknown[]) => unknown;
}

const REMEMBERING = Symbol('nestjs-state:remembering');

/**
 * The handshake of a gateway's client: a socket.io socket carries its own; that of a `ws` socket was remembered when
 * it connected, see {@link rememberHandshakes}.
 */
export function handshakeOf(client: object): Handshake | undefined {
  const { handshake, [UPGRADE_HANDSHAKE]: request } = client as {
    handshake?: Handshake;
    [UPGRADE_HANDSHAKE]?: Handshake;
  };
  return handshake ?? request;
}

/**
 * Lets a gateway keep the request that opened a socket: the `ws` adapter shows it to `handleConnection` and to nobody
 * else, and without it no message handler could see the cookie or header of its client.
 *
 * The hook is put before the gateway's own, on its prototype, because Nest binds it before any instance is ready.
 */
export function rememberHandshakes(prototype: GatewayPrototype): void {
  if (Object.hasOwn(prototype, REMEMBERING)) return;
  Object.defineProperty(prototype, REMEMBERING, { value: true });
  const inner = prototype.handleConnection;
  prototype.handleConnection = function handleConnection(
    this: unknown,
    client: object,
    ...rest: unknown[]
  ): unknown {
    const [request] = rest as [Handshake | undefined];
    if (typeof request?.headers === 'object') {
      // Of the request nothing but its headers is kept for the life of the socket.
      const handshake: Handshake = { headers: request.headers };
      Object.defineProperty(client, UPGRADE_HANDSHAKE, { value: handshake, configurable: true });
    }
    return inner?.call(this, client, ...rest);
  };
}

import type { EventEmitter } from 'node:events';
import type { ServerResponse } from 'node:http';
import type { ExecutionContext } from '@nestjs/common';

type Listener = () => void;

/** Tells when the client of a request has left. */
export class Disconnects {
  // Ten messages of one socket may wait at once, and each with a listener of its own would trip Node's leak warning:
  // one listener a socket tells all of them.
  private readonly sockets = new WeakMap<EventEmitter, Set<Listener>>();

  /**
   * Calls `onLeave` once if the client leaves before the returned function is called; at once if it has left already.
   * Where a transport has no notion of leaving, nothing happens.
   */
  watch(context: ExecutionContext, onLeave: Listener): () => void {
    switch (context.getType()) {
      case 'http':
        return this.watchResponse(context, onLeave);
      case 'ws':
        return this.watchSocket(context.switchToWs().getClient<EventEmitter>(), onLeave);
      default:
        return () => undefined;
    }
  }

  private watchResponse(context: ExecutionContext, onLeave: Listener): () => void {
    // Fastify wraps the response of Node, Express extends it.
    const response = context.switchToHttp().getResponse<ServerResponse & { raw?: ServerResponse }>();
    const raw = response.raw ?? response;
    if (raw.destroyed) onLeave();
    else raw.once('close', onLeave);
    return () => raw.removeListener('close', onLeave);
  }

  private watchSocket(
    socket: EventEmitter & { readyState?: unknown; disconnected?: boolean },
    onLeave: Listener,
  ): () => void {
    const isPlainWebSocket = typeof socket.readyState === 'number';
    if (isPlainWebSocket ? (socket.readyState as number) > 1 : socket.disconnected === true) {
      onLeave();
      return () => undefined;
    }
    let listeners = this.sockets.get(socket);
    if (listeners === undefined) {
      const created = new Set<Listener>();
      listeners = created;
      this.sockets.set(socket, created);
      socket.once(isPlainWebSocket ? 'close' : 'disconnect', () => {
        for (const listener of created) listener();
      });
    }
    const registered = listeners;
    registered.add(onLeave);
    return () => registered.delete(onLeave);
  }
}

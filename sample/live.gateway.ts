import { createHash } from 'node:crypto';
import { ConnectedSocket, SubscribeMessage, WebSocketGateway, WebSocketServer } from '@nestjs/websockets';
import { StateIdent, StateManager, StateToken } from 'nestjs-state';
import type { Server, Socket } from 'socket.io';
import { CounterState } from './counter.state.js';
import { CounterView, type CounterAnswer } from './counter.view.js';
import { SOCKET_OPTIONS } from './socket-options.js';

/** Tells every page of a client what its counter is, whoever has incremented it, in whichever process. */
@WebSocketGateway(SOCKET_OPTIONS)
export class LiveGateway {
  @WebSocketServer()
  private readonly server!: Server;

  constructor(
    private readonly states: StateManager,
    private readonly view: CounterView,
  ) {}

  @SubscribeMessage('watch')
  async watch(@ConnectedSocket() socket: Socket, @StateIdent() token: string): Promise<CounterAnswer> {
    // First into the room, then the look: what is committed in between is told, or seen, but never missed.
    await socket.join(roomOf(token));
    return this.view.answer(await this.states.getState(new StateToken(token, CounterState)), token);
  }

  tell({ count, token, expiresInMs }: CounterAnswer): void {
    this.server.to(roomOf(token)).emit('counter', { count, expiresInMs });
  }
}

// A token is a credential, and the names of rooms travel through Redis.
function roomOf(token: string): string {
  return `counter:${createHash('sha256').update(token).digest('base64url')}`;
}

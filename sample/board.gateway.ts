import { Injectable, UseGuards, type CanActivate, type ExecutionContext } from '@nestjs/common';
import {
  ConnectedSocket,
  MessageBody,
  SubscribeMessage,
  WebSocketGateway,
  WsException,
  type OnGatewayConnection,
  type OnGatewayDisconnect,
  type OnGatewayInit,
} from '@nestjs/websockets';
import { InjectState, StateManager, StateToken, toEvents, type StateChange } from 'nestjs-state';
import { map } from 'rxjs';
import type { Namespace, Socket } from 'socket.io';
import { BoardMembers } from './board.members.js';
import { cursorOf, knownOf, strokePartOf, visitorOf, type Known, type Visitor } from './board.messages.js';
import { BoardState } from './board.state.js';
import { SOCKET_OPTIONS } from './socket-options.js';

type BoardSocket = Socket<Record<string, never>, Record<string, (data: unknown) => void>, object, Visitor>;

const identOf = ({ room }: Visitor): string => `room:${room}`;
const visitorIn = (context: ExecutionContext): Visitor => context.switchToWs().getClient<BoardSocket>().data;

/** The board of the room that the socket is in. */
const InjectBoard = (): ParameterDecorator =>
  InjectState({ type: BoardState, ident: (context) => identOf(visitorIn(context)) });

/** Who may change the board. A guard: whoever is refused has not waited for the lock, and has kept nobody waiting. */
@Injectable()
class Drawing implements CanActivate {
  async canActivate(context: ExecutionContext): Promise<boolean> {
    const { draws, member } = visitorIn(context);
    if (!draws.take()) throw new WsException('Not so fast.');
    return (await member) !== undefined;
  }
}

/** A board that all who are in a room draw on, in whichever process: what is committed is told to all of them. */
@WebSocketGateway({ ...SOCKET_OPTIONS, namespace: 'board' })
export class BoardGateway implements OnGatewayInit, OnGatewayConnection, OnGatewayDisconnect {
  constructor(
    private readonly states: StateManager,
    private readonly members: BoardMembers,
  ) {}

  afterInit(board: Namespace): void {
    board.use((socket, next) => {
      try {
        socket.data = visitorOf(socket.handshake.auth);
        next();
      } catch (error) {
        next(error as Error);
      }
    });
  }

  async handleConnection(socket: BoardSocket): Promise<void> {
    const visitor = socket.data;
    visitor.member = this.members.join(visitor).catch(() => undefined);
    await socket.join(identOf(visitor));
    const member = await visitor.member;
    if (visitor.hasLeft) return this.members.leave(visitor);
    if (member !== undefined) {
      socket.emit('me', { id: visitor.id, ...member });
      return;
    }
    socket.emit('exception', { message: 'The room is full, or cannot be reached. Reload the page later.' });
    socket.disconnect();
  }

  handleDisconnect({ data: visitor }: BoardSocket): Promise<void> {
    return this.members.leave(visitor);
  }

  @SubscribeMessage('watch:board')
  watchBoard(@ConnectedSocket() { data: visitor }: BoardSocket, @MessageBody() message: unknown) {
    beginToWatch(visitor, 'board');
    const known = knownOf(message);
    return this.states.watch(new StateToken(identOf(visitor), BoardState)).pipe(
      map((change) => lean(change, known)),
      toEvents('board'),
    );
  }

  @SubscribeMessage('watch:members')
  watchMembers(@ConnectedSocket() { data: visitor }: BoardSocket) {
    beginToWatch(visitor, 'members');
    return this.states.watch(this.members.tokenOf(visitor.room)).pipe(toEvents('members'));
  }

  @SubscribeMessage('draw')
  @UseGuards(Drawing)
  async draw(
    @InjectBoard() board: BoardState,
    @ConnectedSocket() { data: visitor }: BoardSocket,
    @MessageBody() message: unknown,
  ): Promise<{ isDrawn: boolean }> {
    const part = strokePartOf(message);
    const colour = (await visitor.member)?.colour ?? 0;
    return { isDrawn: board.draw(part, visitor.id, colour, Date.now()) };
  }

  @SubscribeMessage('undo')
  @UseGuards(Drawing)
  undo(@InjectBoard() board: BoardState, @ConnectedSocket() { data }: BoardSocket): object {
    board.undo(data.id);
    return {};
  }

  @SubscribeMessage('clear')
  @UseGuards(Drawing)
  clear(@InjectBoard() board: BoardState): object {
    board.clear();
    return {};
  }

  /** Shown for a moment and stored nowhere: of no use to those who cannot be reached right now. */
  @SubscribeMessage('cursor')
  cursor(@ConnectedSocket() socket: BoardSocket, @MessageBody() message: unknown): void {
    const { id, cursors } = socket.data;
    const cursor = cursorOf(message);
    if (cursor === undefined || !cursors.take()) return;
    socket.volatile.to(identOf(socket.data)).emit('cursor', { id, ...cursor });
  }
}

function beginToWatch({ watches }: Visitor, name: string): void {
  if (watches.has(name)) throw new WsException('It is watched already.');
  watches.add(name);
}

/** A board grows, and a page that has it needs only what has changed, or nothing. */
function lean(change: StateChange<BoardState>, known: Known | undefined): StateChange<BoardState> {
  const { state, patches, version, reason } = change;
  const isSent =
    reason === 'committed' ||
    (reason === 'current' && version === known?.version && state.life === known.life);
  if (!isSent) return change;
  return { patches: reason === 'committed' ? patches : [], version, reason } as StateChange<BoardState>;
}

import { Module } from '@nestjs/common';
import { ConnectedSocket, MessageBody, SubscribeMessage, WebSocketGateway } from '@nestjs/websockets';
import { InjectState, State, StateModule } from 'nestjs-state';
import { priceOf } from './shop.js';

interface Drawing {
  strokes: string[];
  cost: number;
}

/**
 * Before: one more entry for each visitor that ever came, gone with the process; and what is read before an `await` is old
 * after it, so that messages of one client overwrite each other.
 */
@WebSocketGateway()
export class FieldGateway {
  readonly drawings = new Map<string, Drawing>();

  @SubscribeMessage('draw')
  async draw(
    @ConnectedSocket() client: { id: string },
    @MessageBody() message: { id: number; stroke: string },
  ): Promise<object> {
    const { strokes, cost } = this.drawings.get(client.id) ?? { strokes: [], cost: 0 };
    const price = await priceOf(message.stroke);
    this.drawings.set(client.id, { strokes: [...strokes, message.stroke], cost: cost + price });
    return { event: 'drawn', data: { id: message.id, strokes: strokes.length + 1 } };
  }
}

@Module({ providers: [FieldGateway] })
export class FieldModule {}

@State('drawing')
class DrawingState {
  strokes: string[] = [];
  cost = 0;
}

/** After: the client's own drawing, message by message, and gone when it has been idle. */
@WebSocketGateway()
class StateGateway {
  @SubscribeMessage('draw')
  async draw(
    @InjectState() drawing: DrawingState,
    @MessageBody() message: { id: number; stroke: string },
  ): Promise<object> {
    drawing.cost += await priceOf(message.stroke);
    drawing.strokes.push(message.stroke);
    return { event: 'drawn', data: { id: message.id, strokes: drawing.strokes.length } };
  }
}

@Module({ imports: [StateModule.forRoot({ expiration: '1h' })], providers: [StateGateway] })
export class DrawingModule {}

import { UseInterceptors } from '@nestjs/common';
import { SubscribeMessage, WebSocketGateway } from '@nestjs/websockets';
import { InjectState, StateIdent } from 'nestjs-state';
import { CounterState } from './counter.state.js';
import { CounterView, type CounterAnswer } from './counter.view.js';
import { LiveInterceptor } from './live.interceptor.js';
import { SOCKET_OPTIONS } from './socket-options.js';

@WebSocketGateway(SOCKET_OPTIONS)
export class CounterGateway {
  constructor(private readonly view: CounterView) {}

  @SubscribeMessage('increment')
  @UseInterceptors(LiveInterceptor)
  increment(@InjectState() counter: CounterState, @StateIdent() token: string): CounterAnswer {
    counter.increment();
    return this.view.answer(counter, token);
  }
}

import { EventEmitter } from 'node:events';
import {
  Injectable,
  UseGuards,
  UseInterceptors,
  type CallHandler,
  type CanActivate,
  type ExecutionContext,
  type NestInterceptor,
} from '@nestjs/common';
import { ConnectedSocket, MessageBody, SubscribeMessage, WebSocketGateway } from '@nestjs/websockets';
import { InjectState, StateGuard, StateIdent } from 'nestjs-state';
import { map, of, Subject, timeout, type Observable } from 'rxjs';
import { Gates } from './app-gate.js';
import { CounterState, LooseState } from './app-states.js';

export interface Message {
  id: number;
  room?: string;
}

/** Where `hold` and `timeout` wait, by ident. */
export const gates = new Gates();
/** What `stream` emits, by ident. */
export const streams = new Map<string, Subject<unknown>>();

export function answer(id: number, data: object) {
  return { event: 'answer', data: { id, ...data } };
}

@Injectable()
class RefusingGuard implements CanActivate {
  canActivate(): boolean {
    return false;
  }
}

@Injectable()
class SlowRefusal implements CanActivate {
  async canActivate(): Promise<boolean> {
    await new Promise((resolve) => setTimeout(resolve, 10));
    return false;
  }
}

@Injectable()
class ShortCircuit implements NestInterceptor {
  intercept(context: ExecutionContext): Observable<unknown> {
    return of(answer(context.switchToWs().getData<Message>().id, { cached: true }));
  }
}

@Injectable()
class OuterTimeout implements NestInterceptor {
  intercept(_context: ExecutionContext, next: CallHandler): Observable<unknown> {
    return next.handle().pipe(timeout(30));
  }
}

const room = (context: ExecutionContext) => `room:${context.switchToWs().getData<Message>().room}`;

/** Everything the gateway tests need of a handler. Answers carry the id of their message. */
@WebSocketGateway()
export class CounterGateway {
  @SubscribeMessage('increment')
  increment(@InjectState() counter: CounterState, @MessageBody() { id }: Message) {
    return answer(id, { count: counter.increment() });
  }

  @SubscribeMessage('increment-slowly')
  async incrementSlowly(@InjectState() counter: CounterState, @MessageBody() { id }: Message) {
    const { count } = counter;
    await new Promise((resolve) => setImmediate(resolve));
    counter.count = count + 1;
    return answer(id, { count: counter.count });
  }

  @SubscribeMessage('count-listeners')
  countListeners(@ConnectedSocket() client: EventEmitter, @MessageBody() { id }: Message) {
    const listeners = client.eventNames().map((event) => client.listenerCount(event));
    return answer(id, { most: Math.max(...listeners) });
  }

  @SubscribeMessage('read')
  read(@InjectState({ readonly: true }) { count }: CounterState, @MessageBody() { id }: Message) {
    return answer(id, { count });
  }

  @SubscribeMessage('draw')
  draw(
    @InjectState({ ident: room }) board: CounterState,
    @InjectState() own: CounterState,
    @MessageBody() { id }: Message,
  ) {
    return answer(id, { board: board.increment(), own: own.increment() });
  }

  @SubscribeMessage('hold')
  async hold(
    @InjectState() counter: CounterState,
    @StateIdent() ident: string,
    @MessageBody() { id }: Message,
  ) {
    counter.increment();
    await gates.at(ident).pass();
    return answer(id, { count: counter.increment() });
  }

  @SubscribeMessage('timeout')
  @UseInterceptors(OuterTimeout)
  async timeout(@InjectState() counter: CounterState, @StateIdent() ident: string) {
    await gates.at(ident).pass();
    counter.increment();
  }

  @SubscribeMessage('stream')
  stream(@InjectState() counter: CounterState, @StateIdent() ident: string, @MessageBody() { id }: Message) {
    const later = new Subject<unknown>();
    streams.set(ident, later);
    counter.increment();
    return new Promise<Observable<unknown>>((resolve) => {
      const values = later.pipe(map((value) => answer(id, { value })));
      resolve(values);
    });
  }

  @SubscribeMessage('refused')
  @UseGuards(RefusingGuard)
  refused(@InjectState() counter: CounterState) {
    counter.increment();
  }

  @SubscribeMessage('refused-later')
  @UseGuards(StateGuard, RefusingGuard)
  refusedLater(@InjectState() counter: CounterState) {
    counter.increment();
  }

  @SubscribeMessage('refused-slowly')
  @UseGuards(StateGuard, SlowRefusal)
  refusedSlowly(@InjectState() counter: CounterState) {
    counter.increment();
  }

  @SubscribeMessage('short-circuit')
  @UseInterceptors(ShortCircuit)
  shortCircuit(@InjectState() counter: CounterState) {
    counter.increment();
  }

  @SubscribeMessage('throw')
  throw(@InjectState() counter: CounterState) {
    counter.increment();
    throw new Error('of the handler');
  }

  @SubscribeMessage('spoil')
  spoil(@InjectState() counter: CounterState, @InjectState() loose: LooseState) {
    counter.increment();
    loose.value = () => 'a function cannot be stored';
  }
}

import { Injectable, type CallHandler, type ExecutionContext, type NestInterceptor } from '@nestjs/common';
import { tap, type Observable } from 'rxjs';
import type { CounterAnswer } from './counter.view.js';
import { LiveGateway } from './live.gateway.js';

/**
 * Tells the pages of a client what its handler answers. The interceptor of the state is the innermost one, so an answer
 * that comes out of it is committed: whoever is told of a count finds it.
 */
@Injectable()
export class LiveInterceptor implements NestInterceptor<CounterAnswer, CounterAnswer> {
  constructor(private readonly live: LiveGateway) {}

  intercept(_context: ExecutionContext, next: CallHandler<CounterAnswer>): Observable<CounterAnswer> {
    return next.handle().pipe(tap((answer) => this.live.tell(answer)));
  }
}

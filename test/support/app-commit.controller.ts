import {
  Controller,
  ImATeapotException,
  Injectable,
  Post,
  Query,
  RequestTimeoutException,
  Sse,
  UseInterceptors,
  type CallHandler,
  type ExecutionContext,
  type MessageEvent,
  type NestInterceptor,
} from '@nestjs/common';
import { InjectState, StateIdent, StateInterceptor } from 'nestjs-state';
import {
  catchError,
  concat,
  EMPTY,
  from,
  map,
  Observable,
  of,
  retry,
  Subject,
  throwError,
  timeout,
  type ObservableInput,
} from 'rxjs';
import { Gates } from './app-gate.js';
import { CounterState, LooseState } from './app-states.js';

/** Where handlers wait, by ident. */
export const gates = new Gates();
/** What the streaming handlers emit after their first value, by ident. */
export const streams = new Map<string, Subject<MessageEvent>>();
export const closedStreams = new Set<string>();
/** How often `retry` was called, by ident. */
export const attempts = new Map<string, number>();

/** Long enough for an attempt that need not wait, also on a busy machine with a store in another process. */
const TIMEOUT_MS = 500;

@Injectable()
class OuterTimeout implements NestInterceptor {
  intercept(_context: ExecutionContext, next: CallHandler): Observable<unknown> {
    return next.handle().pipe(
      timeout(TIMEOUT_MS),
      catchError(() => throwError(() => new RequestTimeoutException())),
    );
  }
}

@Injectable()
class OuterRetry implements NestInterceptor {
  intercept(_context: ExecutionContext, next: CallHandler): Observable<unknown> {
    return next.handle().pipe(retry(3));
  }
}

@Injectable()
class TimeoutAndRetry implements NestInterceptor {
  intercept(_context: ExecutionContext, next: CallHandler): Observable<unknown> {
    return next.handle().pipe(timeout(TIMEOUT_MS), retry(1));
  }
}

function attempt(ident: string): number {
  const number = (attempts.get(ident) ?? 0) + 1;
  attempts.set(ident, number);
  return number;
}

/** Handlers that end their turn in every way there is. */
@Controller()
export class CommitController {
  @Post('increment')
  increment(@InjectState() counter: CounterState) {
    return { count: counter.increment() };
  }

  @Post('increment-large')
  incrementLarge(@InjectState() counter: CounterState) {
    counter.increment();
    return 'x'.repeat(100_000);
  }

  @Post('spoil')
  spoil(@InjectState() counter: CounterState, @InjectState() loose: LooseState) {
    counter.increment();
    loose.value = () => 'a function cannot be stored';
    return { count: counter.count };
  }

  @Post('throw')
  throw(@InjectState() counter: CounterState) {
    counter.increment();
    throw new ImATeapotException();
  }

  @Post('hold')
  async hold(@InjectState() counter: CounterState, @StateIdent() ident: string) {
    counter.increment();
    await gates.at(ident).pass();
    return { count: counter.increment() };
  }

  @Post('timeout')
  @UseInterceptors(OuterTimeout)
  async timeout(@InjectState() counter: CounterState, @StateIdent() ident: string) {
    counter.increment();
    await gates.at(ident).pass();
    return { count: counter.increment() };
  }

  @Post('retry')
  @UseInterceptors(OuterRetry)
  async retry(@InjectState() counter: CounterState, @StateIdent() ident: string) {
    counter.increment();
    await Promise.resolve();
    if (attempt(ident) < 3) throw new ImATeapotException();
    return { count: counter.count };
  }

  @Post('timeout-and-retry')
  @UseInterceptors(TimeoutAndRetry)
  async timeoutAndRetry(@InjectState() counter: CounterState, @StateIdent() ident: string) {
    const before = counter.count;
    if (attempt(ident) === 1) await gates.at(ident).pass();
    counter.count = before + 1;
    return { count: counter.count };
  }

  @Post('bound-often')
  @UseInterceptors(StateInterceptor, StateInterceptor)
  boundOften(@InjectState() counter: CounterState) {
    return { count: counter.increment() };
  }

  @Post('empty')
  empty(@InjectState() counter: CounterState) {
    counter.increment();
    return EMPTY;
  }

  @Post('plain-empty')
  plainEmpty() {
    return EMPTY;
  }

  @Post('observable')
  observable(@InjectState() counter: CounterState, @StateIdent() ident: string): Observable<unknown> {
    counter.increment();
    const later = from(gates.at(ident).pass()).pipe(
      map(() => {
        try {
          return { late: counter.increment() };
        } catch (error) {
          return { error: (error as Error).name };
        }
      }),
    );
    return concat(of({ count: counter.count }), later);
  }

  @Sse('events')
  events(@InjectState() counter: CounterState, @StateIdent() ident: string): Observable<MessageEvent> {
    const later = new Subject<MessageEvent>();
    streams.set(ident, later);
    counter.increment();
    const first: ObservableInput<MessageEvent> = gates
      .at(`first:${ident}`)
      .pass()
      .then(() => ({ data: { first: counter.count } }));
    return new Observable((subscriber) => {
      subscriber.add(from(first).subscribe((event) => subscriber.next(event)));
      subscriber.add(later.subscribe(subscriber));
      subscriber.add(() => closedStreams.add(ident));
    });
  }

  @Post('fail-commit-of-observable')
  failing(@InjectState() loose: LooseState, @Query('after') _after: string): Observable<unknown> {
    loose.value = Symbol('cannot be stored');
    return from([1, 2, 3]);
  }
}

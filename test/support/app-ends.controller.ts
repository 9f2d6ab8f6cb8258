import { createReadStream, type ReadStream } from 'node:fs';
import {
  ConflictException,
  Controller,
  Get,
  Next,
  Post,
  Sse,
  StreamableFile,
  UseInterceptors,
  type CallHandler,
  type ExecutionContext,
  type NestInterceptor,
  type Type,
} from '@nestjs/common';
import {
  InjectState,
  InjectStateSession,
  StateIdent,
  StateManager,
  StateSession,
  StateToken,
} from 'nestjs-state';
import { catchError, defer, Observable, of, retry, Subject, throwError, timeout } from 'rxjs';
import { Gates } from './app-gate.js';
import { CartState, CounterState } from './app-states.js';

export const gates = new Gates();

/** What its handlers have begun and not ended yet, and what they have done, by token. */
export class Traces {
  readonly subscribed = new Set<string>();
  readonly runs = new Map<string, number>();
  readonly files = new Map<string, ReadStream>();
  readonly idents: string[] = [];

  reset(): void {
    this.subscribed.clear();
    this.runs.clear();
    this.files.clear();
    this.idents.length = 0;
  }

  /** The how manieth run of `token` this is. */
  run(token: string): number {
    const run = (this.runs.get(token) ?? 0) + 1;
    this.runs.set(token, run);
    return run;
  }
}

export const traces = new Traces();

function around(wrap: (next: CallHandler) => Observable<unknown>): Type<NestInterceptor> {
  return class Around implements NestInterceptor {
    intercept(_context: ExecutionContext, next: CallHandler): Observable<unknown> {
      return wrap(next);
    }
  };
}

const GivesUp = around((next) => next.handle().pipe(timeout(100)));
const GivesUpAndRepeats = around((next) => next.handle().pipe(timeout(150), retry(1)));
const CallsAgain = around((next) => next.handle().pipe(catchError(() => next.handle())));

/** Says nothing, until nobody listens any more. */
function silence(token: string): Observable<never> {
  return new Observable(() => {
    traces.subscribed.add(token);
    return () => traces.subscribed.delete(token);
  });
}

function query(name: string): (context: ExecutionContext) => string {
  return (context) =>
    context.switchToHttp().getRequest<{ query: Record<string, string> }>().query[name] as string;
}

/** Handlers whose ends are unusual. */
@Controller()
export class EndsController {
  constructor(private readonly states: StateManager) {}

  @Sse('silent-ident')
  silentIdent(@StateIdent() ident: string) {
    return silence(ident);
  }

  @Sse('silent-readonly')
  silentReadonly(@StateIdent() ident: string, @InjectState({ readonly: true }) _counter: CounterState) {
    return silence(ident);
  }

  @Get('silent-answer')
  silentAnswer(@StateIdent() ident: string) {
    return silence(ident);
  }

  @Sse('silent-locked')
  silentLocked(@StateIdent() ident: string, @InjectState() _counter: CounterState) {
    return silence(ident);
  }

  @Get('two-idents')
  twoIdents(
    @InjectState({ readonly: true, ident: async (context) => query('user')(context) }) _user: CounterState,
    @InjectState({ readonly: true, ident: query('room') }) _room: CounterState,
  ) {}

  @Sse('refused-later')
  refusedLater(@StateIdent() ident: string, @InjectState() _counter: CounterState) {
    return defer(async () => {
      await gates.at(ident).pass();
      const taken = new StateToken(`taken:${ident}`, CounterState);
      return this.states.modifyState(taken, () => ({ data: 1 }), { acquireTimeout: 0 });
    });
  }

  @Post('again')
  @UseInterceptors(CallsAgain)
  again(@StateIdent() ident: string, @InjectState() counter: CounterState) {
    const answer = new Subject<unknown>();
    setImmediate(() => {
      if (traces.run(ident) === 1) answer.error(new Error('the first time'));
      else answer.next({ count: counter.increment() });
      answer.complete();
    });
    return answer;
  }

  @Post('again-readonly')
  @UseInterceptors(CallsAgain)
  againReadonly(@StateIdent() ident: string, @InjectState({ readonly: true }) counter: CounterState) {
    const run = traces.run(ident);
    if (run > 1) return of({ count: counter.count });
    return defer(async () => {
      await this.states.modifyState(new StateToken(ident, CounterState), (state) => state.increment());
      throw new Error('the first time');
    });
  }

  @Post('login-twice')
  @UseInterceptors(GivesUpAndRepeats)
  async loginTwice(
    @StateIdent() ident: string,
    @InjectState() counter: CounterState,
    @InjectStateSession() session: StateSession,
  ) {
    const isFirst = traces.run('login-twice') === 1;
    counter.increment();
    await session.regenerate();
    if (isFirst) await gates.at(ident).pass();
    return { count: counter.count };
  }

  @Get('file')
  @UseInterceptors(GivesUp)
  async file(@StateIdent() ident: string, @InjectState() _counter: CounterState) {
    await gates.at(ident).pass();
    const file = createReadStream(import.meta.filename);
    traces.files.set(ident, file);
    return new StreamableFile(file);
  }

  @Post('conflict')
  conflict(@InjectState() cart: CartState) {
    cart.add('tea');
    throw new ConflictException({ message: 'no', items: cart.items, cart });
  }

  @Post('throws-state')
  throwsState(@InjectState() cart: CartState) {
    cart.add('tea');
    return throwError(() => cart);
  }

  @Sse('throws-dead')
  throwsDead(@InjectState() _counter: CounterState) {
    return defer(async () => {
      let dead: object | undefined;
      const other = new StateToken('another one', CartState);
      await this.states.modifyState(other, (cart) => void (dead = cart));
      throw dead;
    });
  }

  @Sse('login-stream')
  async loginStream(
    @StateIdent() ident: string,
    @InjectState() counter: CounterState,
    @InjectStateSession() session: StateSession,
  ) {
    counter.increment();
    await session.regenerate();
    return defer(async () => {
      await gates.at(ident).pass();
      return { data: 'too late for a cookie' };
    });
  }

  @Sse('bad-teardown')
  badTeardown(@StateIdent() ident: string, @InjectState() _counter: CounterState) {
    return new Observable<never>(() => {
      traces.subscribed.add(ident);
      return () => {
        traces.subscribed.delete(ident);
        throw new Error('of the teardown');
      };
    });
  }
}

/** Two handlers of one request, as Express lets them follow each other. */
@Controller()
export class ChainController {
  @Get('next')
  first(@InjectState() counter: CounterState, @StateIdent() ident: string, @Next() next: () => void) {
    counter.increment();
    traces.idents.push(ident);
    next();
  }

  @Get('next')
  second(@InjectState() counter: CounterState, @StateIdent() ident: string) {
    traces.idents.push(ident);
    return { count: counter.increment() };
  }
}

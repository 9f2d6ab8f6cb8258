import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import {
  Body,
  Controller,
  ImATeapotException,
  Injectable,
  ParseIntPipe,
  Post,
  Query,
  UseGuards,
  UseInterceptors,
  type CallHandler,
  type CanActivate,
  type ExecutionContext,
  type NestInterceptor,
} from '@nestjs/common';
import { InjectState, StateGuard, StateIdent } from 'nestjs-state';
import { of, throwError, type Observable } from 'rxjs';
import { call, countOf, expectEntrySoon, expectIdle, untilLocked } from '../support/app-http.js';
import { Gates, inParallel, until } from '../support/app-gate.js';
import { CounterState } from '../support/app-states.js';
import { HTTP_PLATFORMS, MANY, startApp, type TestApp } from '../support/app.js';

let gates = new Gates();

function identOf(context: ExecutionContext): string {
  return context.switchToHttp().getRequest<{ headers: Record<string, string> }>().headers[
    'x-state-token'
  ] as string;
}

@Injectable()
class RefusingGuard implements CanActivate {
  canActivate(): boolean {
    return false;
  }
}

/** Waits at the gate `guard:<ident>`, then lets in those whose ident does not start with `bad`. */
@Injectable()
class SlowGuard implements CanActivate {
  async canActivate(context: ExecutionContext): Promise<boolean> {
    const ident = identOf(context);
    await gates.at(`guard:${ident}`).pass();
    return !ident.startsWith('bad');
  }
}

@Injectable()
class ShortCircuit implements NestInterceptor {
  intercept(): Observable<unknown> {
    return of({ cached: true });
  }
}

@Injectable()
class ThrowingInterceptor implements NestInterceptor {
  intercept(): Observable<unknown> {
    throw new ImATeapotException();
  }
}

@Injectable()
class FailingAfterwards implements NestInterceptor {
  intercept(_context: ExecutionContext, next: CallHandler): Observable<unknown> {
    next.handle();
    return throwError(() => new ImATeapotException());
  }
}

@Controller()
class LockController {
  @Post('increment')
  increment(@InjectState() counter: CounterState) {
    return { count: counter.increment() };
  }

  @Post('hold')
  async hold(@InjectState() counter: CounterState, @StateIdent() ident: string) {
    counter.increment();
    await gates.at(ident).pass();
    return { count: counter.count };
  }

  @Post('refused')
  @UseGuards(StateGuard, RefusingGuard)
  refused(@InjectState() counter: CounterState) {
    counter.increment();
  }

  @Post('slow-guard')
  @UseGuards(StateGuard, SlowGuard)
  slowGuard(@InjectState() counter: CounterState) {
    return { count: counter.increment() };
  }

  @Post('short-circuit')
  @UseInterceptors(ShortCircuit)
  shortCircuit(@InjectState() counter: CounterState) {
    counter.increment();
  }

  @Post('throwing-interceptor')
  @UseInterceptors(ThrowingInterceptor)
  throwingInterceptor(@InjectState() counter: CounterState) {
    counter.increment();
  }

  @Post('unsubscribed')
  @UseInterceptors(FailingAfterwards)
  unsubscribed(@InjectState() counter: CounterState) {
    counter.increment();
  }

  @Post('throws')
  throws(@InjectState() counter: CounterState) {
    counter.increment();
    throw new ImATeapotException();
  }

  @Post('throws-later')
  async throwsLater(@InjectState() counter: CounterState) {
    counter.increment();
    await Promise.resolve();
    throw new ImATeapotException();
  }

  @Post('both')
  both(
    @InjectState({ ident: (context) => `a-${identOf(context)}` }) first: CounterState,
    @InjectState({ ident: (context) => `b-${identOf(context)}` }) second: CounterState,
  ) {
    return { sum: first.increment() + second.increment() };
  }

  @Post('pipe')
  pipe(
    @InjectState() counter: CounterState,
    @Query('amount', ParseIntPipe) amount: number,
    @Body() _body: unknown,
  ) {
    counter.count += amount;
  }
}

@Controller('cached')
@UseInterceptors(ShortCircuit)
class CachedController {
  @Post()
  cached(@InjectState() counter: CounterState) {
    counter.increment();
  }
}

describe.each(HTTP_PLATFORMS)('No lock stays behind (%s)', (platform) => {
  let app: TestApp;

  beforeAll(async () => {
    gates = new Gates();
    app = await startApp({ platform, controllers: [LockController, CachedController] });
  });

  afterAll(() => app.close());

  it.each([
    ['a later guard that refuses', '/refused', 403],
    ['a short-circuiting interceptor of the method', '/short-circuit', 201],
    ['a short-circuiting interceptor of the class', '/cached', 201],
    ['an interceptor that throws', '/throwing-interceptor', 418],
    ['an interceptor that never subscribes', '/unsubscribed', 418],
    ['a handler that throws', '/throws', 418],
    ['a handler that rejects', '/throws-later', 418],
    ['a pipe that refuses another argument', '/pipe?amount=many', 400],
  ])('after %s the next request is let in and nothing is stored', async (_case, path, status) => {
    await inParallel(MANY, async (index) => {
      const token = `${path}:${index % 10}`;
      const answer = await call(app, path, { token });
      expect(answer.status).toBe(status);
    });
    await expectIdle(app);
    for (let index = 0; index < 10; index += 1) {
      const token = `${path}:${index}`;
      await expectEntrySoon(app, token);
      expect((await call(app, '/increment', { token })).body).toEqual({ count: 1 });
    }
    await expectIdle(app);
  });

  it('a slow guard after StateGuard does not hold the lock while it thinks, whatever it says then', async () => {
    await inParallel(MANY, async (index) => {
      const token = `${index % 2 === 0 ? 'bad' : 'good'}-slow-${index}`;
      const answer = call(app, '/slow-guard', { token });
      const gate = gates.at(`guard:${token}`);
      await gate.reached;
      await expectEntrySoon(app, token);
      expect((await call(app, '/increment', { token })).body).toEqual({ count: 1 });
      gate.open();
      expect((await answer).status).toBe(index % 2 === 0 ? 403 : 201);
      expect(await countOf(app, token)).toBe(index % 2 === 0 ? 1 : 2);
    });
    await expectIdle(app);
  });

  it('a client that disconnects while waiting leaves the queue at once, and the others keep their places', async () => {
    const tokens = Array.from({ length: MANY }, (_, index) => `leaver-${index}`);
    const holders = tokens.map((token) => call(app, '/hold', { token }));
    await Promise.all(tokens.map((token) => gates.at(token).reached));
    const leaving = tokens.map(() => new AbortController());
    const leavers = tokens.map((token, index) =>
      call(app, '/increment', { token, signal: leaving[index]?.signal as AbortSignal }).catch(() => 'left'),
    );
    await until(() => app.stats().waiting === MANY, 'the leavers in the queue');
    const stayers = tokens.map((token) => call(app, '/increment', { token }));
    await until(() => app.stats().waiting === 2 * MANY, 'the stayers in the queue');
    for (const controller of leaving) controller.abort();
    expect(new Set(await Promise.all(leavers))).toEqual(new Set(['left']));
    await until(() => app.stats().waiting === MANY, 'only the stayers in the queue');
    expect(app.stats().openTurns).toBe(MANY);
    for (const token of tokens) gates.at(token).open();
    for (const { body } of await Promise.all(holders)) expect(body).toEqual({ count: 1 });
    for (const { body } of await Promise.all(stayers)) expect(body).toEqual({ count: 2 });
    for (const token of tokens) await expectEntrySoon(app, token);
    await expectIdle(app);
  });

  it('a client that disconnects just as it gets the lock does not keep it', async () => {
    await inParallel(MANY, async (index) => {
      const token = `late-leaver-${index}`;
      const holder = call(app, '/hold', { token });
      await gates.at(token).reached;
      const leaving = new AbortController();
      const leaver = call(app, '/increment', { token, signal: leaving.signal }).catch(() => 'left');
      gates.at(token).open();
      await holder;
      leaving.abort();
      await leaver;
      await expectEntrySoon(app, token);
    });
    await until(() => app.stats().openTurns === 0 && app.stats().waiting === 0, 'an idle manager');
  });

  it('a client that disconnects while it waits for the second of two locks gives the first one back', async () => {
    await inParallel(MANY, async (index) => {
      const token = `both-${index}`;
      const holder = await app.states.openTurn(`b-${token}`);
      const leaving = new AbortController();
      const leaver = call(app, '/both', { token, signal: leaving.signal }).catch(() => 'left');
      await untilLocked(app, `a-${token}`);
      leaving.abort();
      expect(await leaver).toBe('left');
      const first = await app.states.openTurn(`a-${token}`);
      await Promise.all([first.rollback(), holder.rollback()]);
      expect((await call(app, '/both', { token })).body).toEqual({ sum: 2 });
    });
    await expectIdle(app);
  });

  it('a client that leaves while a guard before StateGuard is thinking leaves no lock behind', async () => {
    const slow = await startApp({ platform, controllers: [LockController], guards: [new SlowGuard()] });
    try {
      await inParallel(MANY, async (index) => {
        const token = `gone-${index}`;
        const leaving = new AbortController();
        const leaver = call(slow, '/increment', { token, signal: leaving.signal });
        await gates.at(`guard:${token}`).reached;
        leaving.abort();
        await expect(leaver).rejects.toThrow();
        gates.at(`guard:${token}`).open();
        await expectEntrySoon(slow, token);
      });
      await until(() => slow.stats().openTurns === 0 && slow.stats().waiting === 0, 'an idle manager');
    } finally {
      await slow.close();
    }
  });
});

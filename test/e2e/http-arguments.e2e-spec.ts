import { AsyncLocalStorage } from 'node:async_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import {
  Body,
  ClassSerializerInterceptor,
  Controller,
  Get,
  Inject,
  Injectable,
  Post,
  Scope,
  UseGuards,
  UseInterceptors,
  ValidationPipe,
  type CallHandler,
  type CanActivate,
  type ExecutionContext,
  type NestInterceptor,
} from '@nestjs/common';
import { REQUEST } from '@nestjs/core';
import { IsArray, IsInt, Max } from 'class-validator';
import { InjectState, State, StateIdent, StateToken } from 'nestjs-state';
import type { Observable } from 'rxjs';
import { call, countOf, expectIdle } from '../support/app-http.js';
import { inOneQueue, inParallel } from '../support/app-gate.js';
import { CartState, CounterState } from '../support/app-states.js';
import { HTTP_PLATFORMS, MANY, startApp, type TestApp } from '../support/app.js';

@State('e2e.validated')
class ValidatedState {
  @IsInt()
  @Max(1)
  count = 0;

  @IsArray()
  items: string[] = [];
}

class AmountDto {
  @IsInt()
  amount = 0;
}

const identFrom = (header: string) => (context: ExecutionContext) =>
  context.switchToHttp().getRequest<{ headers: Record<string, string> }>().headers[header] as string;
const trace = new AsyncLocalStorage<string>();

@Injectable()
class TraceInterceptor implements NestInterceptor {
  intercept(context: ExecutionContext, next: CallHandler): Observable<unknown> {
    return trace.run(identFrom('x-trace')(context), () => next.handle());
  }
}

/** Takes so long that the guard's turn has been given back when the handler is reached. */
@Injectable()
class SlowInterceptor implements NestInterceptor {
  async intercept(_context: ExecutionContext, next: CallHandler): Promise<Observable<unknown>> {
    await sleep(2);
    return next.handle();
  }
}

@Controller()
class ArgumentsController {
  @Post('increment')
  increment(@InjectState() counter: CounterState) {
    return { count: counter.increment() };
  }

  @Post('cart')
  cart(@InjectState() cart: CartState) {
    cart.add('a');
    return cart;
  }

  @Post('items')
  items(@InjectState() cart: CartState) {
    cart.add('a');
    return { items: cart.items, first: [cart.items[0]] };
  }

  @Post('unchanged')
  unchanged(@InjectState() cart: CartState) {
    return cart;
  }

  @Post('serialized')
  @UseInterceptors(ClassSerializerInterceptor)
  serialized(@InjectState() cart: CartState) {
    cart.add('a');
    return cart;
  }

  @Get('read')
  read(@InjectState({ readonly: true }) counter: CounterState) {
    return counter;
  }

  @Get('read-and-write')
  readAndWrite(@InjectState({ readonly: true }) counter: CounterState) {
    counter.increment();
  }

  @Post('both')
  both(@InjectState() counter: CounterState, @InjectState({ readonly: true }) before: CounterState) {
    return { count: counter.increment(), before: before.count };
  }

  @Post('validated')
  validated(@InjectState() state: ValidatedState, @Body() { amount }: AmountDto) {
    state.count += amount;
    state.items.push('x');
    return {
      isState: state instanceof ValidatedState,
      count: state.count,
      isNumber: typeof amount === 'number',
    };
  }

  @Post('trace')
  @UseInterceptors(TraceInterceptor)
  trace(@InjectState() counter: CounterState) {
    counter.increment();
    return { trace: trace.getStore() };
  }

  @Post('trace-slow')
  @UseInterceptors(TraceInterceptor, SlowInterceptor)
  traceSlow(@InjectState() counter: CounterState) {
    counter.increment();
    return { trace: trace.getStore() };
  }
}

@Controller({ path: 'scoped', scope: Scope.REQUEST })
class ScopedController {
  constructor(@Inject(REQUEST) private readonly request: { headers: Record<string, string> }) {}

  @Post()
  increment(@InjectState() counter: CounterState) {
    return { count: counter.increment(), trace: this.request.headers['x-trace'] };
  }
}

@Injectable()
class RefusesNobody implements CanActivate {
  canActivate(): boolean {
    return true;
  }
}

class OverriddenController {
  @Post('add')
  add(@InjectState() counter: CounterState, @Body('by') by: number): unknown {
    counter.count += by;
    return { count: counter.count };
  }

  @Post('read')
  read(@InjectState({ readonly: true }) counter: CounterState): unknown {
    return { count: counter.count };
  }
}

@Controller('overriding')
class OverridingController extends OverriddenController {
  @Post('add')
  @UseGuards(RefusesNobody)
  override add(@InjectState() counter: CounterState, by: number): unknown {
    return super.add(counter, by * 2);
  }

  @Post('read')
  override read(counter: CounterState, @StateIdent() ident = ''): unknown {
    return { count: counter.count, ident };
  }
}

@Controller('undecorated')
class UndecoratedController extends OverriddenController {
  @Post('add')
  override add(counter: CounterState, by: number): unknown {
    return super.add(counter, by * 2);
  }

  // No handler: nobody calls it but this class.
  override read(counter: CounterState): unknown {
    return super.read(counter);
  }
}

describe.each(HTTP_PLATFORMS)('The arguments of a handler (%s)', (platform) => {
  let app: TestApp;

  beforeAll(async () => {
    app = await startApp({
      platform,
      controllers: [ArgumentsController, ScopedController, OverridingController],
    });
  });

  afterAll(() => app.close());

  it('may be returned, whole or in part: the client gets what is committed', async () => {
    const items = [{ sku: 'a', amount: 1 }];
    await inParallel(MANY, async (index) => {
      expect((await call(app, '/cart', { token: `cart-${index}` })).body).toEqual({ items });
      expect((await call(app, '/unchanged', { token: `cart-${index}` })).body).toEqual({ items });
      expect((await call(app, '/items', { token: `items-${index}` })).body).toEqual({ items, first: items });
      expect((await call(app, '/serialized', { token: `serialized-${index}` })).body).toEqual({ items });
    });
    await expectIdle(app);
  });

  it('that are readonly never wait, and show what is committed', async () => {
    await call(app, '/increment', { token: 'readonly' });
    const turn = await app.states.openTurn('readonly');
    (await turn.state(CounterState)).count = 100;
    const answers = await inParallel(MANY, () => call(app, '/read', { token: 'readonly', method: 'GET' }));
    for (const { body } of answers) expect(body).toEqual({ count: 1 });
    expect(app.stats().waiting).toBe(0);
    await turn.commit();
    expect((await call(app, '/read', { token: 'readonly', method: 'GET' })).body).toEqual({ count: 100 });
    expect((await call(app, '/read-and-write', { token: 'readonly', method: 'GET' })).status).toBe(500);
    expect(await countOf(app, 'readonly')).toBe(100);
    expect((await call(app, '/both', { token: 'readonly' })).body).toEqual({ count: 101, before: 100 });
    await expectIdle(app);
  });

  it('are what a global ValidationPipe finds, and it replaces none by a copy', async () => {
    const pipe = new ValidationPipe({ transform: true, validateCustomDecorators: true, whitelist: true });
    const validating = await startApp({ platform, controllers: [ArgumentsController], pipes: [pipe] });
    try {
      await inParallel(MANY, async (index) => {
        const token = `validated-${index % 10}`;
        const { body } = await call(validating, '/validated', { token, body: { amount: 2 } });
        expect(body).toMatchObject({ isState: true, isNumber: true });
      });
      for (let index = 0; index < 10; index += 1) {
        const state = await validating.states.getState(new StateToken(`validated-${index}`, ValidatedState));
        expect(state.count).toBe((2 * MANY) / 10);
        expect(state.items).toHaveLength(MANY / 10);
      }
      expect((await call(validating, '/validated', { token: 'v', body: { amount: 'x' } })).status).toBe(400);
      await expectIdle(validating);
    } finally {
      await validating.close();
    }
  });

  it.each(['/trace', '/trace-slow'])(
    'leave the async context of outer interceptors alone (%s)',
    async (path) => {
      await inParallel(MANY, async (index) => {
        const headers = { 'x-trace': `trace-${index}` };
        expect((await call(app, path, { token: path, headers })).body).toEqual({ trace: `trace-${index}` });
      });
      expect(await countOf(app, path)).toBe(MANY);
      await expectIdle(app);
    },
  );

  it('are those of the handler that it overrides where it declares no others, as Nest has it', async () => {
    const answers = await inParallel(MANY, () =>
      call(app, '/overriding/add', { token: 'heir', body: { by: 1 } }),
    );
    for (const { status } of answers) expect(status).toBe(201);
    expect((await call(app, '/overriding/read', { token: 'heir' })).body).toEqual({
      count: 2 * MANY,
      ident: 'heir',
    });
    await expectIdle(app);
  });

  it('are asked for where a handler that overrides another one declares none of them', async () => {
    const starting = startApp({ platform, controllers: [UndecoratedController] });
    await expect(starting).rejects.toThrow(
      /UndecoratedController\.add: it overrides a handler .* Decorate them again/,
    );
    await expect(starting).rejects.not.toThrow(/\.read/);
  });

  it('are injected into request-scoped controllers', async () => {
    const counts = await inOneQueue(app.states, ['scoped'], MANY, async (index) => {
      const { body } = await call<{ count: number; trace: string }>(app, '/scoped', {
        token: 'scoped',
        headers: { 'x-trace': `${index}` },
      });
      expect(body.trace).toBe(`${index}`);
      return body.count;
    });
    expect(counts.sort((a, b) => a - b)).toEqual(Array.from({ length: MANY }, (_, index) => index + 1));
    await expectIdle(app);
  });
});

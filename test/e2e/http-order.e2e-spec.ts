import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import {
  Controller,
  Get,
  Inject,
  Injectable,
  Post,
  UseGuards,
  UseInterceptors,
  type CallHandler,
  type CanActivate,
  type ExecutionContext,
  type NestInterceptor,
} from '@nestjs/common';
import { APP_GUARD, APP_INTERCEPTOR } from '@nestjs/core';
import {
  InjectState,
  RequestStates,
  State,
  StateGuard,
  StateIdent,
  StateManager,
  StateToken,
} from 'nestjs-state';
import { mergeMap, type Observable } from 'rxjs';
import { call, countOf, expectIdle } from '../support/app-http.js';
import { inParallel, until } from '../support/app-gate.js';
import { CounterState } from '../support/app-states.js';
import { HTTP_PLATFORMS, MANY, startApp, type AppSetup, type TestApp } from '../support/app.js';

@State('e2e.roles')
class RolesState {
  roles: string[] = [];
}

@Injectable()
class RefusingGuard implements CanActivate {
  canActivate(): boolean {
    return false;
  }
}

/** Admits who has the role `admin` in his state, and notes how many turns were open at that moment. */
@Injectable()
class RolesGuard implements CanActivate {
  static openTurns = 0;

  constructor(
    @Inject(RequestStates) private readonly requests: RequestStates,
    @Inject(StateManager) private readonly states: StateManager,
  ) {}

  async canActivate(context: ExecutionContext): Promise<boolean> {
    RolesGuard.openTurns = this.states.stats().openTurns;
    return (await this.requests.get(context, RolesState)).roles.includes('admin');
  }
}

/** Adds to the answer what is committed when it passes by. */
@Injectable()
class CommittedWitness implements NestInterceptor {
  constructor(@Inject(StateManager) private readonly states: StateManager) {}

  intercept(_context: ExecutionContext, next: CallHandler): Observable<unknown> {
    return next.handle().pipe(
      mergeMap(async (value: { ident: string; seen: number[] }) => {
        const { count } = await this.states.getState(new StateToken(value.ident, CounterState));
        return { ...value, seen: [...value.seen, count] };
      }),
    );
  }
}

@Controller()
class PlainController {
  @Post('increment')
  increment(@InjectState() counter: CounterState) {
    return { count: counter.increment() };
  }

  @Post('roles/method')
  @UseGuards(StateGuard, RolesGuard)
  byMethod(@InjectState() counter: CounterState, @InjectState() _roles: RolesState) {
    return { count: counter.increment() };
  }

  @Post('roles/before')
  @UseGuards(RolesGuard)
  before(@InjectState() counter: CounterState) {
    return { count: counter.increment() };
  }

  @Post('refused')
  @UseGuards(RefusingGuard)
  refused(@InjectState() counter: CounterState) {
    counter.increment();
  }

  @Get('stateless')
  @UseGuards(StateGuard)
  stateless() {
    return { ok: true };
  }
}

@Controller('refused-by-class')
@UseGuards(RefusingGuard)
class RefusedController {
  @Post()
  refused(@InjectState() counter: CounterState) {
    counter.increment();
  }
}

@Controller('roles/class')
@UseGuards(StateGuard, RolesGuard)
class RolesController {
  @Post()
  byClass(@InjectState() counter: CounterState) {
    return { count: counter.increment() };
  }
}

@Controller('bound-thrice')
@UseGuards(StateGuard)
class BoundThriceController {
  @Post()
  @UseGuards(StateGuard)
  thrice(@InjectState() counter: CounterState) {
    return { count: counter.increment() };
  }
}

@Controller('witness')
@UseInterceptors(CommittedWitness)
class WitnessController {
  @Post()
  @UseInterceptors(CommittedWitness)
  increment(@InjectState() counter: CounterState, @StateIdent() ident: string) {
    return { ident, count: counter.increment(), seen: [] };
  }
}

const controllers = [
  PlainController,
  RefusedController,
  RolesController,
  BoundThriceController,
  WitnessController,
];

function makeAdmin(app: TestApp, ident: string): Promise<void> {
  return app.states.setState(new StateToken(ident, RolesState), { roles: ['admin'] });
}

async function withApp(setup: AppSetup, use: (app: TestApp) => Promise<void>): Promise<void> {
  const app = await startApp(setup);
  try {
    await use(app);
  } finally {
    await app.close();
  }
}

async function expectRefusedWithoutWaiting(refusing: TestApp, path: string): Promise<void> {
  const holder = await refusing.states.openTurn('locked');
  const answers = await inParallel(MANY, () => call(refusing, path, { token: 'locked' }));
  expect(answers.map(({ status }) => status)).toEqual(Array(MANY).fill(403));
  // They have their answers while somebody else holds the lock.
  expect(refusing.stats()).toMatchObject({ openTurns: 1, waiting: 0 });
  await holder.rollback();
}

describe.each(HTTP_PLATFORMS)('The place of guard and interceptor (%s)', (platform) => {
  let app: TestApp;

  beforeAll(async () => {
    app = await startApp({ platform, controllers });
  });

  afterAll(() => app.close());

  it('a caller whom a guard of the method refuses neither takes the lock nor waits for it', () =>
    expectRefusedWithoutWaiting(app, '/refused'));

  it('a caller whom a guard of the class refuses neither takes the lock nor waits for it', () =>
    expectRefusedWithoutWaiting(app, '/refused-by-class'));

  it('a caller whom a global guard refuses neither takes the lock nor waits for it', () =>
    withApp({ platform, controllers, guards: [new RefusingGuard()] }, (refusing) =>
      expectRefusedWithoutWaiting(refusing, '/increment'),
    ));

  it('a caller whom an APP_GUARD refuses neither takes the lock nor waits for it', () =>
    withApp(
      { platform, controllers, providers: [{ provide: APP_GUARD, useClass: RefusingGuard }] },
      (refusing) => expectRefusedWithoutWaiting(refusing, '/increment'),
    ));

  it('every other interceptor sees the answer of a turn that is committed', () =>
    withApp(
      { platform, controllers, providers: [{ provide: APP_INTERCEPTOR, useClass: CommittedWitness }] },
      async (witnessed) => {
        await inParallel(MANY, async (index) => {
          const { body } = await call(witnessed, '/witness', { token: `witness-${index}` });
          expect(body).toEqual({ ident: `witness-${index}`, count: 1, seen: [1, 1, 1] });
        });
      },
    ));

  it.each(['/roles/method', '/roles/class'])(
    'a StateGuard of the author stays before the guards he put behind it (%s)',
    async (path) => {
      await makeAdmin(app, `admin${path}`);
      expect((await call(app, path, { token: `admin${path}` })).status).toBe(201);
      expect(RolesGuard.openTurns).toBe(1);
      expect((await call(app, path, { token: `guest${path}` })).status).toBe(403);
      expect(RolesGuard.openTurns).toBe(1);
      await expectIdle(app);
    },
  );

  it('a StateGuard given as APP_GUARD stays before the guards of the method', () =>
    withApp(
      { platform, controllers, providers: [{ provide: APP_GUARD, useClass: StateGuard }] },
      async (guarded) => {
        await makeAdmin(guarded, 'admin');
        expect((await call(guarded, '/roles/before', { token: 'admin' })).body).toEqual({ count: 1 });
        expect(RolesGuard.openTurns).toBe(1);
        expect((await call(guarded, '/roles/before', { token: 'guest' })).status).toBe(403);
        expect((await call(guarded, '/stateless', { method: 'GET' })).status).toBe(200);
        await expectIdle(guarded);
      },
    ));

  it('a guard reads the state of the request, whether or not the lock has been taken', async () => {
    await inParallel(MANY, async (index) => {
      const token = `roles-${index}`;
      if (index % 2 === 0) await makeAdmin(app, token);
      for (const path of ['/roles/method', '/roles/class', '/roles/before']) {
        expect((await call(app, path, { token })).status).toBe(index % 2 === 0 ? 201 : 403);
      }
      expect(await countOf(app, token)).toBe(index % 2 === 0 ? 3 : 0);
    });
    await expectIdle(app);
  });

  it('a request without a token that such a guard asks for is answered with 401', () =>
    withApp({ platform, controllers, state: { token: { onMissing: 'reject' } } }, async (strict) => {
      expect((await call(strict, '/roles/before')).status).toBe(401);
      expect((await call(strict, '/roles/before', { token: 'x'.repeat(257) })).status).toBe(400);
    }));

  it('a guard bound globally, on the class and on the method opens one turn', () =>
    withApp(
      {
        platform,
        controllers,
        providers: [{ provide: APP_GUARD, useClass: StateGuard }],
        state: { acquireTimeout: '10s' },
      },
      async (guarded) => {
        const holder = await guarded.states.openTurn('thrice');
        const answers = inParallel(MANY, () => call(guarded, '/bound-thrice', { token: 'thrice' }));
        await until(() => guarded.stats().waiting === MANY, 'all of them in the queue');
        await holder.rollback();
        // A second turn of one request would wait for its first one, and be refused after `acquireTimeout`.
        const counts = (await answers).map(({ body }) => (body as { count: number }).count);
        expect(counts.sort((a, b) => a - b)).toEqual(Array.from({ length: MANY }, (_, index) => index + 1));
        await expectIdle(guarded);
      },
    ));

  it('is the same in every application that has the controller, and none sees the states of another', () =>
    withApp({ platform, controllers }, (second) =>
      withApp({ platform: platform === 'express' ? 'fastify' : 'express', controllers }, async (third) => {
        const apps = [app, second, third];
        await inParallel(MANY, async (index) => {
          for (const each of apps) {
            const { body } = await call(each, '/increment', { token: 'shared' });
            expect((body as { count: number }).count).toBeLessThanOrEqual(MANY);
          }
          const refused = await call(apps[index % 3] as TestApp, '/refused', { token: 'shared' });
          expect(refused.status).toBe(403);
        });
        for (const each of apps) {
          expect(await countOf(each, 'shared')).toBe(MANY);
          await expectRefusedWithoutWaiting(each, '/refused');
          await expectIdle(each);
        }
      }),
    ));

  it('a lock held in one application keeps nobody waiting in another', () =>
    withApp({ platform, controllers }, async (second) => {
      const holder = await app.states.openTurn('held-elsewhere');
      expect((await call(second, '/increment', { token: 'held-elsewhere' })).body).toEqual({ count: 1 });
      const waiter = call(app, '/increment', { token: 'held-elsewhere' });
      await until(() => app.stats().waiting === 1, 'a waiter');
      await holder.rollback();
      expect((await waiter).body).toEqual({ count: 1 });
    }));
});

// One application that counts visits over HTTP, on a port of its own.
import 'reflect-metadata';
import { AsyncLocalStorage } from 'node:async_hooks';
import { promisify } from 'node:util';
import {
  Controller,
  createParamDecorator,
  HttpCode,
  Module,
  Post,
  UseGuards,
  UseInterceptors,
} from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import session from 'express-session';
import { InjectState, StateManager, StateModule } from 'nestjs-state';
import { childArguments, serve } from '../support/child.mjs';
import { cpuMs } from '../support/machine.mjs';
import { sum } from '../support/figures.mjs';
import { plainVisitor, totalOf, visit, VisitorState } from '../support/states.mjs';

const [{ platform, variant, visitors }] = childArguments();

/** The handler of every variant. */
class VisitController {
  visit(visitor) {
    visit(visitor);
    return { count: visitor.count };
  }
}

class EmptyGuard {
  canActivate() {
    return true;
  }
}

class EmptyInterceptor {
  intercept(_context, next) {
    return next.handle();
  }
}

class ContextInterceptor {
  static storage = new AsyncLocalStorage();

  intercept(_context, next) {
    return ContextInterceptor.storage.run({}, () => next.handle());
  }
}

function shared(interceptor) {
  const visitor = plainVisitor();
  return {
    parameter: createParamDecorator(() => visitor)(),
    enhancers: [UseGuards(EmptyGuard), UseInterceptors(interceptor)],
    total: () => visitor.count,
  };
}

const VARIANTS = {
  /** The state of the client: locked, loaded, committed. */
  injected: () => ({
    imports: [StateModule.forRoot({ mode: 'memory' })],
    parameter: InjectState(VisitorState),
    total: () => totalOf(app.get(StateManager), visitors),
  }),

  /** One object for everybody, and a guard and an interceptor that do nothing. */
  empty: () => shared(EmptyInterceptor),

  /** The same, and the handler can be told from others by what it calls. */
  context: () => shared(ContextInterceptor),

  /** What express-session keeps for the client, in its default store. */
  session: () => {
    const store = new session.MemoryStore();
    return {
      parameter: createParamDecorator((_data, context) => {
        const request = context.switchToHttp().getRequest();
        // Behind Fastify the middleware has seen the request of Node.
        const visitor = (request.raw ?? request).session;
        if (visitor.count === undefined) Object.assign(visitor, plainVisitor());
        return visitor;
      })(),
      middleware: quietly(() =>
        session({ store, secret: 'of the benchmark', resave: false, saveUninitialized: true }),
      ),
      total: async () => {
        const all = await promisify(store.all).call(store);
        return sum(Object.values(all).map(({ count }) => count));
      },
    };
  },
};

/** express-session warns of its default store, rightly. */
function quietly(create) {
  const { warn } = console;
  console.warn = () => undefined;
  try {
    return create();
  } finally {
    console.warn = warn;
  }
}

const { imports = [], parameter, enhancers = [], middleware, total } = VARIANTS[variant]();
const descriptor = Object.getOwnPropertyDescriptor(VisitController.prototype, 'visit');
parameter(VisitController.prototype, 'visit', 0);
for (const decorate of [...enhancers, HttpCode(200), Post('visit')])
  decorate(VisitController.prototype, 'visit', descriptor);
Controller()(VisitController);
class AppModule {}
Module({ imports, controllers: [VisitController] })(AppModule);

const app = await createApp();
if (middleware !== undefined) app.use(middleware);
await app.listen(0, '127.0.0.1');
const { port } = app.getHttpServer().address();

async function createApp() {
  const options = { logger: ['error', 'fatal'] };
  if (platform === 'express') return NestFactory.create(AppModule, options);
  const { FastifyAdapter } = await import('@nestjs/platform-fastify');
  return NestFactory.create(AppModule, new FastifyAdapter(), options);
}

serve(
  {
    port: () => port,
    version: () => process.version,
    cpuMs,
    total: () => total(app),
  },
  () => app.close(),
);

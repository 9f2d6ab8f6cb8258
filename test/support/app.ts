import 'reflect-metadata';
import { Agent, type Server } from 'node:http';
import type {
  CanActivate,
  DynamicModule,
  ForwardReference,
  INestApplication,
  NestInterceptor,
  PipeTransform,
  Provider,
  Type,
} from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { ExpressAdapter } from '@nestjs/platform-express';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import { IoAdapter } from '@nestjs/platform-socket.io';
import { WsAdapter } from '@nestjs/platform-ws';
import { StateManager, StateModule, type StateModuleOptions, type StateStats } from 'nestjs-state';

export type HttpPlatform = 'express' | 'fastify';
export type SocketPlatform = 'socket.io' | 'ws';

export const HTTP_PLATFORMS: readonly HttpPlatform[] = ['express', 'fastify'];
export const SOCKET_PLATFORMS: readonly SocketPlatform[] = ['socket.io', 'ws'];

/** How many copies of a request an isolation test has in flight at once. */
export const MANY = 50;

export interface AppSetup {
  platform?: HttpPlatform;
  sockets?: SocketPlatform;
  controllers?: Type<unknown>[];
  providers?: Provider[];
  imports?: (Type<unknown> | DynamicModule | Promise<DynamicModule> | ForwardReference)[];
  /** Of `StateModule.forRoot()`, on top of where this test file keeps its states: in memory unless said otherwise. `false`: `imports` brings the module. */
  state?: StateModuleOptions | false;
  /** The application stands behind a proxy whose headers it may believe. */
  trustProxy?: boolean;
  guards?: CanActivate[];
  interceptors?: NestInterceptor[];
  pipes?: PipeTransform[];
  /** Runs before the application is initialised. */
  configure?: (app: INestApplication) => void | Promise<void>;
}

/** An application that listens on a free port of the loopback interface. */
export interface TestApp {
  readonly nest: INestApplication;
  readonly url: string;
  readonly states: StateManager;
  /** Of the HTTP clients of this application; its connections end with it. */
  readonly agent: Agent;
  stats(): StateStats;
  close(): Promise<void>;
}

let store: () => StateModuleOptions = () => ({ mode: 'memory' });

/** Where the applications of this test file keep their states, instead of in memory. */
export function keepStatesIn(options: () => StateModuleOptions): void {
  store = options;
}

/** The root module of `setup`. */
export function rootModule({ controllers, providers, imports, state }: AppSetup): DynamicModule {
  return {
    module: class RootModule {},
    imports: [
      ...(state === false ? [] : [StateModule.forRoot({ ...store(), ...state })]),
      ...(imports ?? []),
    ],
    controllers: controllers ?? [],
    providers: providers ?? [],
  };
}

/** The application of `setup`, not yet initialised. */
export async function createApp(setup: AppSetup): Promise<INestApplication> {
  const trustProxy = setup.trustProxy === true;
  const adapter =
    setup.platform === 'fastify' ? new FastifyAdapter({ trustProxy }) : expressAdapter(trustProxy);
  const nest = await NestFactory.create(rootModule(setup), adapter, { logger: false, abortOnError: false });
  if (setup.sockets !== undefined)
    nest.useWebSocketAdapter(setup.sockets === 'ws' ? new WsAdapter(nest) : new IoAdapter(nest));
  if (setup.guards !== undefined) nest.useGlobalGuards(...setup.guards);
  if (setup.interceptors !== undefined) nest.useGlobalInterceptors(...setup.interceptors);
  if (setup.pipes !== undefined) nest.useGlobalPipes(...setup.pipes);
  await setup.configure?.(nest);
  return nest;
}

function expressAdapter(trustProxy: boolean): ExpressAdapter {
  const adapter = new ExpressAdapter();
  adapter.set('trust proxy', trustProxy);
  return adapter;
}

export async function startApp(setup: AppSetup): Promise<TestApp> {
  const nest = await createApp(setup);
  await nest.listen(0, '127.0.0.1');
  // Node closes a connection that was idle for 5 s, which a busy machine makes of it just when it is used again.
  (nest.getHttpServer() as Server).keepAliveTimeout = 60_000;
  const states = nest.get(StateManager);
  const agent = new Agent({ keepAlive: true });
  return {
    nest,
    url: await nest.getUrl(),
    states,
    agent,
    stats: () => states.stats(),
    close: async () => {
      agent.destroy();
      await nest.close();
    },
  };
}

/** The error that starting `setup` ends in; fails when it starts. */
export async function startError(setup: AppSetup): Promise<Error> {
  let nest: INestApplication;
  try {
    nest = await createApp(setup);
    await nest.init();
  } catch (error) {
    return error as Error;
  }
  await nest.close();
  throw new Error('The application has started.');
}

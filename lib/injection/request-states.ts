import { Inject, Injectable, type ExecutionContext, type OnModuleInit, type Type } from '@nestjs/common';
import { ModuleRef } from '@nestjs/core';
import type { Immutable } from 'immer';
import { StateManager } from '../managers/state.manager.js';
import { STATE_OPTIONS } from '../state.constants.js';
import type { ResolvedStateOptions } from '../state.options.js';
import { isResolverClass } from '../state.options.resolve.js';
import { StateToken } from '../state.token.js';
import { Disconnects } from './disconnects.js';
import { injectedParameters } from './injected-state.js';
import { RequestTurn, type RequestTurnHost } from './request-turn.js';
import { StateTokenResolver } from './state-token.resolver.js';

type Resolver = Pick<StateTokenResolver, 'resolve'>;

interface Known {
  readonly handler: object;
  readonly turn: RequestTurn;
}

/**
 * Shows guards and interceptors of the application the state that a request is about to use.
 *
 * The library's own guard and interceptor find the turn of a request again through it.
 */
@Injectable()
export class RequestStates implements RequestTurnHost, OnModuleInit {
  readonly disconnects = new Disconnects();
  private readonly known = new WeakMap<object, Known>();
  private resolver: Resolver;

  constructor(
    @Inject(StateManager) readonly manager: StateManager,
    @Inject(STATE_OPTIONS) private readonly options: ResolvedStateOptions,
    @Inject(StateTokenResolver) defaultResolver: StateTokenResolver,
    @Inject(ModuleRef) private readonly moduleRef: ModuleRef,
  ) {
    this.resolver = defaultResolver;
  }

  async onModuleInit(): Promise<void> {
    const { resolver } = this.options.token;
    if (resolver === undefined) return;
    this.resolver = isResolverClass(resolver)
      ? await this.instanceOf(resolver as Type<Resolver>)
      : { resolve: resolver as Resolver['resolve'] };
  }

  /**
   * The committed state, immutable, that the handler of `context` gets injected, or that of the client where the
   * handler has no parameter of that class. Never waits.
   *
   * @throws {InvalidStateTokenError} when the request has no usable token, or `cls` is no state class.
   */
  async get<T>(context: ExecutionContext, cls: Type<T>): Promise<Immutable<T>> {
    const parameter = injectedParameters(context.getHandler())?.find(({ type }) => type === cls);
    const ident = await this.turnOf(context).identOf(parameter?.ident);
    return this.manager.getState(new StateToken(ident, cls));
  }

  /** @internal The turn of the request, or `undefined` when its handler has no state injected. */
  injectedTurnOf(context: ExecutionContext): RequestTurn | undefined {
    return injectedParameters(context.getHandler()) === undefined ? undefined : this.turnOf(context);
  }

  /** @internal */
  resolve(context: ExecutionContext): string | Promise<string> {
    return this.resolver.resolve(context);
  }

  private turnOf(context: ExecutionContext): RequestTurn {
    const handler = context.getHandler();
    // On HTTP the argument arrays of guard and interceptor differ and the request is the same; elsewhere the array is
    // the same, and the client is shared by its concurrent messages.
    const key =
      context.getType() === 'http' ? context.switchToHttp().getRequest<object>() : context.getArgs();
    const known = this.known.get(key);
    if (known?.handler === handler) return known.turn;
    const label = `${context.getClass().name}.${handler.name}`;
    const turn = new RequestTurn(this, context, injectedParameters(handler) ?? [], label);
    this.known.set(key, { handler, turn });
    return turn;
  }

  private async instanceOf(resolver: Type<Resolver>): Promise<Resolver> {
    try {
      return this.moduleRef.get(resolver, { strict: false });
    } catch {
      // It is nobody's provider, so it is ours.
      return this.moduleRef.create(resolver);
    }
  }
}

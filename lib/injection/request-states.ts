import { Inject, Injectable, type ExecutionContext, type OnModuleInit, type Type } from '@nestjs/common';
import { HttpAdapterHost, ModuleRef } from '@nestjs/core';
import type { Immutable } from 'immer';
import { createPrivateSlot } from '../internal/private-slot.js';
import type { LockingStateManager } from '../managers/locking-state.manager.js';
import { StateManager } from '../managers/state.manager.js';
import { STATE_OPTIONS } from '../state.constants.js';
import type { ResolvedStateOptions, StateTokenResolverOption } from '../state.options.js';
import { isResolverClass } from '../state.options.parsers.js';
import { StateToken } from '../state.token.js';
import { checkedIdent } from './checked-ident.js';
import { ClientTokens } from './client-tokens.js';
import { Disconnects } from './disconnects.js';
import { HandlerPlan } from './handler-plan.js';
import type { HandlerTurns } from './handler-turns.js';
import { RequestTurn, type RequestTurnHost } from './request-turn.js';
import { StateSession } from './state-session.js';
import { StateTokenResolver } from './state-token.resolver.js';
import { toTransportError } from './transport-errors.js';
import { UnclaimedTurns } from './unclaimed-turns.js';

type Resolver = Pick<StateTokenResolver, 'resolve'>;

/** Our own resolver checks what it finds, which is not to be done twice for each request. */
const CHECKED_RESOLVE: unknown = StateTokenResolver.prototype.resolve;

/**
 * Shows guards and interceptors of the application the state that a request is about to use.
 *
 * The library's own guard and interceptor find the turn of a request again through it.
 */
@Injectable()
export class RequestStates implements RequestTurnHost, OnModuleInit {
  readonly disconnects = new Disconnects();
  /** Where a request keeps its turn. One for each application: one may hand its request on to another. */
  private readonly turns = createPrivateSlot<RequestTurn>();
  private readonly plans = new WeakMap<object, HandlerPlan>();
  private readonly unclaimed = new UnclaimedTurns();
  private tokens: ClientTokens | undefined;
  private resolver: Resolver | undefined;
  private creatingResolver: Promise<Resolver> | undefined;

  constructor(
    @Inject(StateManager) readonly manager: LockingStateManager,
    @Inject(STATE_OPTIONS) private readonly options: ResolvedStateOptions,
    @Inject(StateTokenResolver) private readonly defaultResolver: StateTokenResolver,
    @Inject(ModuleRef) private readonly moduleRef: ModuleRef,
    @Inject(HttpAdapterHost) private readonly adapterHost: HttpAdapterHost,
  ) {}

  /** @internal */
  async onModuleInit(): Promise<void> {
    // A resolver that cannot be created keeps the application from starting.
    this.resolver = await this.configuredResolver();
  }

  /**
   * The committed state, immutable, that the handler of `context` gets injected, or that of the client where the
   * handler has no parameter of that class. Never waits.
   *
   * @throws {HttpException} (`WsException`, `RpcException`) what `StateGuard` would answer when the request has no usable
   * token or the store is silent. @throws {InvalidStateTokenError} when `cls` is no state class.
   */
  async get<T>(context: ExecutionContext, cls: Type<T>): Promise<Immutable<T>> {
    const plan = this.planOf(context);
    const parameter = plan.parameters.find(({ type }) => type === cls);
    try {
      const ident = await this.turnOf(context, plan).identOf(parameter?.ident);
      return await this.manager.getState(new StateToken(ident, cls));
    } catch (error) {
      // A guard that asks before StateGuard has had its say would turn a missing token into a 500.
      throw await this.explain(error, context);
    }
  }

  /** @internal What the client is told of `error`. */
  explain(error: unknown, context: ExecutionContext): Promise<unknown> {
    return toTransportError(error, context, this.adapterHost.httpAdapter);
  }

  /** @internal */
  handBackSoon(turns: HandlerTurns): void {
    this.unclaimed.add(turns);
  }

  /** @internal The turn of the request, or `undefined` when its handler has no state injected. */
  injectedTurnOf(context: ExecutionContext): RequestTurn | undefined {
    const plan = this.planOf(context);
    return plan.parameters.length === 0 ? undefined : this.turnOf(context, plan);
  }

  /** @internal */
  resolve(context: ExecutionContext): string | Promise<string> {
    const { resolver } = this;
    // A gateway with a port of its own can be asked before the module is initialised.
    if (resolver === undefined)
      return checkedIdent(this.configuredResolver().then((configured) => configured.resolve(context)));
    const found = resolver.resolve(context);
    return resolver.resolve === CHECKED_RESOLVE ? found : checkedIdent(found);
  }

  /** @internal */
  sessionOf(context: ExecutionContext, ident: string, onRenamed: (ident: string) => void): StateSession {
    const { manager, options } = this;
    const tokens = (this.tokens ??= new ClientTokens(options.token, this.adapterHost));
    return new StateSession(
      { manager, tokens, expirationMs: options.expirationMs, context, onRenamed },
      ident,
    );
  }

  private planOf(context: ExecutionContext): HandlerPlan {
    const handler = context.getHandler();
    let plan = this.plans.get(handler);
    if (plan === undefined) {
      plan = new HandlerPlan(handler);
      this.plans.set(handler, plan);
    }
    return plan;
  }

  private turnOf(context: ExecutionContext, plan: HandlerPlan): RequestTurn {
    // On HTTP the argument arrays of guard and interceptor differ and the request is the same; elsewhere the array is
    // the same, and the client is shared by its concurrent messages.
    const holder = (context.getType() === 'http' ? context.getArgByIndex(0) : context.getArgs()) as object;
    const known = this.turns.get(holder);
    if (known?.plan === plan) return known;
    const turn = new RequestTurn(this, context, plan);
    this.turns.put(holder, turn);
    return turn;
  }

  private configuredResolver(): Promise<Resolver> {
    return (this.creatingResolver ??= this.createResolver(this.options.token.resolver));
  }

  private async createResolver(resolver: StateTokenResolverOption | undefined): Promise<Resolver> {
    if (resolver === undefined) return this.defaultResolver;
    if (!isResolverClass(resolver)) return { resolve: resolver as Resolver['resolve'] };
    try {
      return this.moduleRef.get(resolver as Type<Resolver>, { strict: false });
    } catch {
      // It is nobody's provider, so it is ours.
      return this.moduleRef.create(resolver as Type<Resolver>);
    }
  }
}

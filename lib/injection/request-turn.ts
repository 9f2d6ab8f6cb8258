import type { ExecutionContext } from '@nestjs/common';
import { assertIdent } from '../internal/ident.js';
import type { LockingStateManager } from '../managers/locking-state.manager.js';
import type { ManagedTurn } from '../managers/managed-turn.js';
import { inLockOrder } from '../managers/several-turns.js';
import { currentFrame, runInFrame, type TurnFrame } from '../managers/turn-scope.js';
import { requireDefinition, StateToken } from '../state.token.js';
import type { Disconnects } from './disconnects.js';
import { HandlerTurns } from './handler-turns.js';
import type { IdentOfContext, InjectedParameter } from './injected-state.js';
import { ClientLeftError } from './transport-errors.js';

/** What a request's turn needs of the module. */
export interface RequestTurnHost {
  readonly manager: LockingStateManager;
  readonly disconnects: Disconnects;
  /** The ident of the client. */
  resolve(context: ExecutionContext): string | Promise<string>;
}

/**
 * What a request has injected: its idents, and the turns it is about to use.
 *
 * Guarantee: between the guard that opens them and the interceptor that claims them turns are held for one event-loop
 * turn at most, so whatever comes between, or never comes, leaves no lock behind. Cost: where idents are found and
 * locks are free without waiting, nothing here is asynchronous, and nothing is created for waiting.
 */
export class RequestTurn {
  private held: HandlerTurns | undefined;
  private handingBack: NodeJS.Immediate | undefined;
  private readonly idents = new Map<IdentOfContext | undefined, string | Promise<string>>();

  constructor(
    private readonly host: RequestTurnHost,
    private readonly context: ExecutionContext,
    private readonly parameters: readonly InjectedParameter[],
    private readonly label: string,
  ) {}

  /** Whether the running code is in the handler, or in an interceptor inside of another one of ours. */
  get isEntered(): boolean {
    return currentFrame()?.request === this;
  }

  /** For the guard: opens the turns, to be claimed soon. Does nothing when they are open. */
  open(): void | Promise<void> {
    if (this.held !== undefined) return undefined;
    const turns = this.acquire(() => new AbortController());
    return turns instanceof Promise ? turns.then((opened) => this.hold(opened)) : this.hold(turns);
  }

  /**
   * For the interceptor: the turns that a guard has opened, or new ones if they were given back or had their run. From
   * here on the caller ends them. `waiting` is asked for when they have to be waited for, and aborts the wait.
   */
  claim(waiting: () => AbortController): HandlerTurns | Promise<HandlerTurns> {
    const { held } = this;
    if (held === undefined) return this.acquire(waiting);
    clearImmediate(this.handingBack);
    this.held = undefined;
    return held;
  }

  /** The frame a handler runs in: inside `turns`, with the values of its parameters. */
  enter(turns: HandlerTurns): TurnFrame | Promise<TurnFrame> {
    const values = this.parameters.map((parameter) => this.valueOf(parameter, turns));
    return values.some(isPromise)
      ? Promise.all(values).then((done) => this.frameOf(turns, done))
      : this.frameOf(turns, values);
  }

  /** The ident that `identOf` finds, or the client's own; looked for once in a request. */
  identOf(identOf: IdentOfContext | undefined): string | Promise<string> {
    let ident = this.idents.get(identOf);
    if (ident === undefined) {
      const found = identOf === undefined ? this.host.resolve(this.context) : identOf(this.context);
      // A query that is no Promise has a `then` all the same.
      ident = isThenable(found) ? Promise.resolve(found).then(checked) : checked(found);
      // When the ident of another parameter fails first, nobody waits for this one: its failure must not end the process.
      if (isPromise(ident)) ident.catch(() => undefined);
      this.idents.set(identOf, ident);
    }
    return ident;
  }

  private hold(turns: HandlerTurns): void {
    this.held = turns;
    // A guard later in the chain may refuse, or take its time: nobody then tells us, so the turns end by themselves.
    this.handingBack = setImmediate(() => {
      this.held?.rollback();
      this.held = undefined;
    });
  }

  private acquire(waiting: () => AbortController): HandlerTurns | Promise<HandlerTurns> {
    const idents = this.parameters
      .filter(({ type, readonly }) => type !== undefined && !readonly)
      .map(({ ident }) => this.identOf(ident));
    return idents.some(isPromise)
      ? this.acquireInOrder(waiting(), idents)
      : (this.acquireAtOnce(idents as string[]) ?? this.acquireInOrder(waiting(), idents));
  }

  /** All turns, or `undefined` when a lock is not free. */
  private acquireAtOnce(idents: readonly string[]): HandlerTurns | undefined {
    const turns: ManagedTurn[] = [];
    for (const ident of inLockOrder(idents)) {
      const turn = this.host.manager.tryOpenTurn(ident, this.label);
      if (turn === undefined) {
        new HandlerTurns(turns).rollback();
        return undefined;
      }
      turns.push(turn);
    }
    return new HandlerTurns(turns);
  }

  private async acquireInOrder(
    waiting: AbortController,
    idents: readonly (string | Promise<string>)[],
  ): Promise<HandlerTurns> {
    const turns: ManagedTurn[] = [];
    const stopWatching = this.host.disconnects.watch(this.context, () =>
      waiting.abort(new ClientLeftError()),
    );
    try {
      for (const ident of inLockOrder(await Promise.all(idents)))
        turns.push(await this.openTurn(ident, waiting.signal));
      return new HandlerTurns(turns);
    } catch (error) {
      new HandlerTurns(turns).rollback();
      throw error;
    } finally {
      stopWatching();
    }
  }

  private async openTurn(ident: string, signal: AbortSignal): Promise<ManagedTurn> {
    // Whatever turn this request came out of, its own is another one: it must not join.
    const open = () => this.host.manager.openTurn(ident, { signal, label: this.label });
    return (await runInFrame(undefined, open, undefined, undefined)) as ManagedTurn;
  }

  private valueOf(parameter: InjectedParameter, turns: HandlerTurns): unknown {
    const ident = this.identOf(parameter.ident);
    return isPromise(ident)
      ? ident.then((found) => this.stateOf(parameter, found, turns))
      : this.stateOf(parameter, ident, turns);
  }

  private stateOf(parameter: InjectedParameter, ident: string, turns: HandlerTurns): unknown {
    if (parameter.type === undefined) return ident;
    if (parameter.readonly) return this.host.manager.getState(new StateToken(ident, parameter.type));
    return turns.of(ident).draft(requireDefinition(parameter.type));
  }

  private frameOf(turns: HandlerTurns, values: readonly unknown[]): TurnFrame {
    return turns.frame(
      this,
      new Map(this.parameters.map(({ index }, position) => [index, values[position]])),
    );
  }
}

function checked(ident: unknown): string {
  assertIdent(ident);
  return ident;
}

function isThenable(value: string | Promise<string>): value is Promise<string> {
  return typeof (value as { then?: unknown } | undefined)?.then === 'function';
}

function isPromise<T>(value: T | Promise<T>): value is Promise<T> {
  return value instanceof Promise;
}

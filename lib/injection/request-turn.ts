import type { ExecutionContext } from '@nestjs/common';
import type { LockingStateManager } from '../managers/locking-state.manager.js';
import type { ManagedTurn } from '../managers/managed-turn.js';
import { inLockOrder } from '../managers/several-turns.js';
import { currentFrame, runInFrame, type TurnFrame } from '../managers/turn-scope.js';
import { requireDefinition, StateToken } from '../state.token.js';
import { checkedIdent } from './checked-ident.js';
import type { Disconnects } from './disconnects.js';
import type { HandlerPlan, PlannedParameter } from './handler-plan.js';
import { HandlerTurns } from './handler-turns.js';
import type { IdentOfContext } from './injected-state.js';
import type { StateSession } from './state-session.js';
import { ClientLeftError } from './transport-errors.js';

/** What a request's turn needs of the module. */
export interface RequestTurnHost {
  readonly manager: LockingStateManager;
  readonly disconnects: Disconnects;
  /** The ident of the client, checked as {@link checkedIdent} does it. */
  resolve(context: ExecutionContext): string | Promise<string>;
  /** The session of a client that is `ident` so far; `onRenamed` is told what it is since. */
  sessionOf(context: ExecutionContext, ident: string, onRenamed: (ident: string) => void): StateSession;
  /** What the client is told of `error`. */
  explain(error: unknown, context: ExecutionContext): Promise<unknown>;
  /** Calls {@link HandlerTurns.handBack} at the end of this event-loop turn. */
  handBackSoon(turns: HandlerTurns): void;
}

/**
 * What a request has injected: its idents, and the turns it is about to use.
 *
 * Guarantee: between the guard that opens them and the interceptor that claims them turns are held for one event-loop
 * turn at most, so whatever comes between, or never comes, leaves no lock behind. Cost: where idents are found and
 * locks are free without waiting, nothing here is asynchronous, and nothing is created for waiting.
 */
export class RequestTurn {
  private held: HandlerTurns | undefined = undefined;
  /** The ident of the client. */
  private ownIdent: string | Promise<string> | undefined = undefined;
  private session: StateSession | undefined = undefined;
  private otherIdents: Map<IdentOfContext, string | Promise<string>> | undefined = undefined;

  constructor(
    private readonly host: RequestTurnHost,
    private readonly context: ExecutionContext,
    readonly plan: HandlerPlan,
  ) {}

  private get label(): string {
    return this.plan.labelIn(this.context.getClass());
  }

  /** Whether the running code is in the handler, or in an interceptor inside of another one of ours. */
  get isEntered(): boolean {
    const frame = currentFrame();
    return frame?.request === this && frame.isOver !== true;
  }

  /** For the guard: opens the turns, to be claimed soon. Does nothing when they are open. */
  open(): void | Promise<void> {
    if (this.held?.isUnclaimed === true) return undefined;
    const turns = this.tryAcquire();
    if (turns !== undefined) return this.hold(turns);
    return this.acquire(new AbortController()).then((opened) => this.hold(opened));
  }

  /**
   * For the interceptor: the turns that a guard has opened, or new ones if they were given back or had their run. From
   * here on the caller ends them. `undefined` where they have to be waited for, see {@link acquire}.
   */
  claim(): HandlerTurns | undefined {
    const { held } = this;
    this.held = undefined;
    return held?.claim() === true ? held : this.tryAcquire();
  }

  /** Waits for turns, until `waiting` is aborted. The caller ends them. */
  async acquire(waiting: AbortController): Promise<HandlerTurns> {
    const { locked } = this.plan;
    const find = (): Promise<string[]> => Promise.all(locked.map((identOf) => this.identOf(identOf)));
    let turns: ManagedTurn[] = [];
    const stopWatching = this.host.disconnects.watch(this.context, () =>
      waiting.abort(new ClientLeftError()),
    );
    try {
      for (let idents = await find(); ;) {
        for (const ident of inLockOrder(idents)) turns.push(await this.openTurn(ident, waiting.signal));
        // A run of the handler that nobody listens to any more may have given the client a new ident meanwhile.
        const wanted = await find();
        if (wanted.every((ident, index) => ident === idents[index])) return leading(turns);
        leading(turns).rollback();
        turns = [];
        idents = wanted;
      }
    } catch (error) {
      leading(turns).rollback();
      throw error;
    } finally {
      stopWatching();
    }
  }

  /** The frame a handler runs in: inside `turns`, with the values of its parameters. */
  enter(turns: HandlerTurns): TurnFrame | Promise<TurnFrame> {
    const injected: unknown[] = [];
    let isComplete = true;
    for (const parameter of this.plan.parameters) {
      const ident = this.identOf(parameter.ident);
      const isKnown = typeof ident === 'string';
      injected[parameter.index] = isKnown
        ? this.valueOf(parameter, ident, turns)
        : ident.then((found) => this.valueOf(parameter, found, turns));
      // Of a value one does not ask whether it is a promise: a draft would look for the answer in its state.
      if (isKnown && !(parameter.readonly && parameter.type !== undefined)) continue;
      isComplete = false;
      // When another parameter throws, nobody waits for this one: its failure must not end the process.
      (injected[parameter.index] as Promise<unknown>).catch(() => undefined);
    }
    return isComplete
      ? this.frameOf(turns, injected)
      : Promise.all(injected).then((values) => this.frameOf(turns, values));
  }

  /** What the client is told of `error`. */
  explain(error: unknown): Promise<unknown> {
    return this.host.explain(error, this.context);
  }

  /** The ident that `identOf` finds, or the client's own; looked for once in a request. */
  identOf(identOf: IdentOfContext | undefined): string | Promise<string> {
    if (identOf === undefined) return (this.ownIdent ??= this.resolve());
    const idents = (this.otherIdents ??= new Map());
    let ident = idents.get(identOf);
    if (ident === undefined) {
      ident = checkedIdent(identOf(this.context));
      idents.set(identOf, ident);
    }
    return ident;
  }

  private resolve(): string | Promise<string> {
    const ident = this.host.resolve(this.context);
    if (typeof ident !== 'string')
      ident.then(
        (known) => (this.ownIdent = known),
        () => undefined,
      );
    return ident;
  }

  private frameOf(turns: HandlerTurns, injected: readonly unknown[]): TurnFrame {
    const { ownIdent } = this;
    return turns.frame(this, injected, typeof ownIdent === 'string' ? ownIdent : undefined);
  }

  private hold(turns: HandlerTurns): void {
    this.held = turns;
    turns.offer();
    // A guard later in the chain may refuse, or take its time: nobody then tells us, so the turns end by themselves.
    this.host.handBackSoon(turns);
  }

  /** All turns, or `undefined` when an ident is not known yet, or a lock is not free. */
  private tryAcquire(): HandlerTurns | undefined {
    const { locked } = this.plan;
    if (locked.length !== 1) return this.tryAcquireAll(locked);
    const ident = this.identOf(locked[0]);
    const turn = typeof ident === 'string' ? this.host.manager.tryOpenTurn(ident, this.label) : undefined;
    return turn && new HandlerTurns(turn);
  }

  private tryAcquireAll(locked: HandlerPlan['locked']): HandlerTurns | undefined {
    const idents = locked.map((identOf) => this.identOf(identOf));
    if (!idents.every((ident) => typeof ident === 'string')) return undefined;
    const turns: ManagedTurn[] = [];
    for (const ident of inLockOrder(idents)) {
      const turn = this.host.manager.tryOpenTurn(ident, this.label);
      if (turn === undefined) {
        leading(turns).rollback();
        return undefined;
      }
      turns.push(turn);
    }
    return leading(turns);
  }

  private async openTurn(ident: string, signal: AbortSignal): Promise<ManagedTurn> {
    // Whatever turn this request came out of, its own is another one: it must not join.
    const open = () => this.host.manager.openTurn(ident, { signal, label: this.label });
    return (await runInFrame(undefined, open, undefined, undefined)) as ManagedTurn;
  }

  private valueOf(parameter: PlannedParameter, ident: string, turns: HandlerTurns): unknown {
    if (parameter.injects === 'session')
      return (this.session ??= this.host.sessionOf(this.context, ident, (renamed) => {
        this.ownIdent = renamed;
      }));
    if (parameter.type === undefined) return ident;
    if (parameter.readonly) return this.host.manager.getState(new StateToken(ident, parameter.type));
    return turns.of(ident).draft(parameter.definition ?? requireDefinition(parameter.type));
  }
}

/** The first of `turns` leads the others. */
function leading([leader, ...companions]: readonly ManagedTurn[]): HandlerTurns {
  return new HandlerTurns(leader, companions);
}

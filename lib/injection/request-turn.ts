import type { ExecutionContext } from '@nestjs/common';
import { assertIdent } from '../internal/ident.js';
import type { ManagedTurn } from '../managers/managed-turn.js';
import type { StateManager } from '../managers/state.manager.js';
import { enclosingFrame, runInFrame, type TurnFrame } from '../managers/turn-scope.js';
import { StateToken } from '../state.token.js';
import type { Disconnects } from './disconnects.js';
import { definitionOfParameter, type IdentOfContext, type InjectedParameter } from './injected-state.js';
import { ClientLeftError } from './transport-errors.js';

/** What a request's turn needs of the module. */
export interface RequestTurnHost {
  readonly manager: StateManager;
  readonly disconnects: Disconnects;
  /** The ident of the client. */
  resolve(context: ExecutionContext): string | Promise<string>;
}

/** `held`: open, and given back unless claimed in this event-loop turn. `claimed`: the interceptor will end it. */
type Status = 'closed' | 'opening' | 'held' | 'claimed' | 'ended';

/**
 * The turns of one request: one for each ident its handler changes.
 *
 * Guarantee: between the guard that opens them and the interceptor that claims them they are held for one event-loop
 * turn at most, so whatever comes between, or never comes, leaves no lock behind.
 */
export class RequestTurn {
  private status: Status = 'closed';
  private turns: ManagedTurn[] = [];
  private readonly idents = new Map<IdentOfContext | undefined, Promise<string>>();
  private handingBack: NodeJS.Immediate | undefined;
  private opening: Promise<void> | undefined;
  private waiting: AbortController | undefined;

  constructor(
    private readonly host: RequestTurnHost,
    private readonly context: ExecutionContext,
    private readonly parameters: readonly InjectedParameter[],
    private readonly label: string,
  ) {}

  /** For the guard: opens the turns, to be claimed soon. Does nothing when they are open. */
  async open(): Promise<void> {
    if (this.status === 'opening') return this.opening;
    if (this.status === 'held' || this.status === 'claimed') return;
    this.status = 'opening';
    this.opening = this.acquire();
    try {
      await this.opening;
      // A guard later in the chain may refuse, or take its time: nobody then tells us, so the turns end by themselves.
      this.status = 'held';
      this.handingBack = setImmediate(() => this.handBack());
    } catch (error) {
      this.status = 'closed';
      throw error;
    } finally {
      this.opening = undefined;
    }
  }

  /** For the interceptor: from here on the caller ends the turns. Opens them again if they were given back. */
  claim(): void | Promise<void> {
    if (this.status === 'held') {
      clearImmediate(this.handingBack);
      this.status = 'claimed';
      return undefined;
    }
    return this.reclaim();
  }

  /** Whoever was waiting in {@link claim} does not want the turns any more. */
  cancel(): void {
    this.waiting?.abort(new ClientLeftError());
  }

  /** What the handler gets for its parameters, and the frame its code runs in. The turns are claimed. */
  async enter(): Promise<TurnFrame> {
    const injected = new Map<number, unknown>();
    for (const parameter of this.parameters) {
      injected.set(parameter.index, await this.valueOf(parameter, await this.identOf(parameter.ident)));
    }
    let frame: TurnFrame = { turn: undefined, outer: enclosingFrame() };
    for (const turn of this.turns) frame = { turn, outer: frame };
    return { ...frame, injected };
  }

  /** Commits all turns, or none, and returns what `result` is to the client. */
  commit(result: unknown): unknown {
    this.status = 'ended';
    const { turns } = this;
    const [first] = turns;
    if (first === undefined) return result;
    if (turns.length === 1) return first.settle(result);
    let settled = result;
    try {
      for (const turn of turns) settled = turn.prepare(settled, true);
      for (const turn of turns) turn.store();
    } catch (error) {
      this.rollback();
      throw error;
    }
    return settled;
  }

  /** Rolls back whatever is open. */
  rollback(): void {
    this.status = 'ended';
    for (const turn of this.turns) turn.abandon();
  }

  /** Calls `onLost` if one of the turns loses its lock. */
  whenLost(onLost: () => void): void {
    for (const turn of this.turns) turn.signal.addEventListener('abort', onLost, { once: true });
  }

  /** The ident that `identOf` finds, or the client's own; resolved once for the request. */
  identOf(identOf: IdentOfContext | undefined): Promise<string> {
    let ident = this.idents.get(identOf);
    if (ident === undefined) {
      ident = this.findIdent(identOf);
      this.idents.set(identOf, ident);
    }
    return ident;
  }

  private async reclaim(): Promise<void> {
    await this.open();
    clearImmediate(this.handingBack);
    this.status = 'claimed';
  }

  private handBack(): void {
    if (this.status !== 'held') return;
    this.rollback();
    this.turns = [];
    this.status = 'closed';
  }

  private async acquire(): Promise<void> {
    // One order for everybody, so that two handlers with the same two idents cannot wait for each other.
    const locked = new Set<string>();
    for (const { type, readonly, ident: identOf } of this.parameters) {
      const ident = await this.identOf(identOf);
      if (type !== undefined && !readonly) locked.add(ident);
    }
    const turns: ManagedTurn[] = [];
    const waiting = new AbortController();
    this.waiting = waiting;
    const stopWatching = this.host.disconnects.watch(this.context, () =>
      waiting.abort(new ClientLeftError()),
    );
    try {
      for (const ident of [...locked].sort()) {
        turns.push(await this.openTurn(ident, waiting.signal));
      }
      this.turns = turns;
    } catch (error) {
      for (const turn of turns) turn.abandon();
      throw error;
    } finally {
      stopWatching();
      this.waiting = undefined;
    }
  }

  private async openTurn(ident: string, signal: AbortSignal): Promise<ManagedTurn> {
    // Whatever turn this request came out of, its own is another one: it must not join.
    const open = () => this.host.manager.openTurn(ident, { signal, label: this.label });
    return (await runInFrame(undefined, open, undefined, undefined)) as ManagedTurn;
  }

  private async valueOf(parameter: InjectedParameter, ident: string): Promise<unknown> {
    if (parameter.type === undefined) return ident;
    if (parameter.readonly) return this.host.manager.getState(new StateToken(ident, parameter.type));
    const turn = this.turns.find((open) => open.ident === ident) as ManagedTurn;
    return turn.draft(definitionOfParameter(parameter));
  }

  private async findIdent(identOf: IdentOfContext | undefined): Promise<string> {
    const ident: unknown = await (identOf === undefined
      ? this.host.resolve(this.context)
      : identOf(this.context));
    assertIdent(ident);
    return ident;
  }
}

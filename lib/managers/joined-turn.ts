import type { Type } from '@nestjs/common';
import type { StateDefinition } from '../internal/state-definition.js';
import { STATE_ERROR_CODES, StateError } from '../state.errors.js';
import type { ManagedTurn } from './managed-turn.js';
import type { StateTurn } from './state.manager.js';

/**
 * A turn inside an open turn of the same ident: the same drafts, and the outer turn's commit decides.
 *
 * Guarantee: it never waits. Failure: when it is not committed, the outer turn cannot be committed either.
 */
export class JoinedTurn implements StateTurn {
  private ended = false;
  private either: AbortSignal | undefined;

  constructor(
    /** The turn it is a part of. */
    readonly outer: ManagedTurn,
    private readonly callerSignal: AbortSignal | undefined,
  ) {}

  get ident(): string {
    return this.outer.ident;
  }

  /** False once it has been committed or rolled back. */
  get isRunning(): boolean {
    return !this.ended;
  }

  get signal(): AbortSignal {
    const { outer, callerSignal } = this;
    if (callerSignal === undefined) return outer.signal;
    return (this.either ??= AbortSignal.any([outer.signal, callerSignal]));
  }

  state<T>(cls: Type<T>): Promise<T> {
    return this.outer.state(cls);
  }

  isNew(cls: Type<unknown>): boolean {
    return this.outer.isNew(cls);
  }

  async commit(): Promise<void> {
    this.prepare(undefined);
  }

  async rollback(): Promise<void> {
    this.abandon();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.abandon();
  }

  draft(definition: StateDefinition): object {
    return this.outer.draft(definition);
  }

  replace(definition: StateDefinition, fields: object): void {
    this.outer.replace(definition, fields);
  }

  deleteAll(): boolean {
    return this.outer.deleteAll();
  }

  /** Ends it. Drafts in `result` live on until the outer turn ends. */
  prepare<R>(result: R): R {
    if (this.callerSignal?.aborted) {
      this.abandon(this.callerSignal.reason);
      throw this.callerSignal.reason;
    }
    this.ended = true;
    if (this.outer.outcome === 'rolled-back')
      throw new StateError(
        STATE_ERROR_CODES.turnEnded,
        `Nothing of what has joined the turn of ${this.outer.description} is stored: that turn has ended (rolled-back).`,
      );
    return result;
  }

  /** What it has changed is stored with the outer turn. */
  store(): undefined {
    return undefined;
  }

  /** The outer turn holds the lock: nothing to wait for. */
  whenReleased(): undefined {
    return undefined;
  }

  abandon(error?: unknown): void {
    if (this.ended) return;
    this.ended = true;
    this.outer.doom(
      error ??
        new StateError(
          STATE_ERROR_CODES.turnEnded,
          `A joined turn of ${this.outer.description} was rolled back.`,
        ),
    );
  }
}

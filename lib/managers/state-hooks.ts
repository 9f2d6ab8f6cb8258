import type { Logger, Type } from '@nestjs/common';
import type { Clock } from '../internal/clock.js';
import { Deferred } from '../internal/deferred.js';
import { hashIdent } from '../internal/ident.js';
import type { StateDefinition } from '../internal/state-definition.js';
import { readable, type Snapshot } from '../internal/state-draft.js';
import { StateToken } from '../state.token.js';
import { runInFrame } from './turn-scope.js';

/** How long one slice of hooks may keep the event loop, in milliseconds, one hook more or less; the rest follows after waiting I/O. */
const SLICE_MS = 8;

/** What a hook can be for. */
export const STATE_HOOK_REASONS = ['created', 'expired', 'deleted', 'evicted', 'lock-lost'] as const;

/** Why a hook is called: what has happened to the state. */
export type StateHookReason = (typeof STATE_HOOK_REASONS)[number];

/** What a hook is told, beside the state. */
export interface StateHookEvent<T> {
  readonly reason: StateHookReason;
  /** Whose state it is, or was. It holds the ident, which is a credential: never log it. */
  readonly token: StateToken<T>;
}

/** One method that is called for one kind of event of one state class. */
export interface StateHook {
  readonly cls: Type<unknown>;
  readonly reason: StateHookReason;
  /** What messages call it, for example `CartHooks.onExpired`. */
  readonly name: string;
  call(this: void, state: unknown, event: StateHookEvent<unknown>): unknown;
}

/** The state as that class sees it; `undefined` when it cannot be read as one. Asked for when a hook is called. */
export type StateReader = (definition: StateDefinition) => Snapshot | undefined;

/** A call of a hook that is due. */
class DueHook {
  next: DueHook | undefined = undefined;

  constructor(
    readonly hook: StateHook,
    readonly ident: string,
    readonly read: StateReader,
  ) {}
}

/**
 * The hooks of a manager, and those of their calls that are due.
 *
 * Guarantee: each event calls each of its hooks once, in the order of the events, outside of every turn and of the async
 * context it happened in. Nothing a hook does reaches whoever caused the event, nor another hook. Cost: nothing without
 * hooks; else what is due is kept until it has been called, in slices that leave the event loop to others in between.
 */
export class StateHooks {
  private readonly hooks = new Map<StateHookReason, Map<string, StateHook[]>>();
  private first: DueHook | undefined;
  private last: DueHook | undefined;
  private isScheduled = false;
  private isStopped = false;
  /** How many have begun and not ended. */
  private running = 0;
  private idle: Deferred | undefined;

  constructor(
    private readonly clock: Clock,
    private readonly logger: Logger,
  ) {}

  /** @throws {InvalidStateTokenError} when its class is no state class. */
  add(hook: StateHook): void {
    const { definition } = new StateToken('-', hook.cls);
    let ofReason = this.hooks.get(hook.reason);
    if (ofReason === undefined) this.hooks.set(hook.reason, (ofReason = new Map<string, StateHook[]>()));
    ofReason.set(definition.name, [...(ofReason.get(definition.name) ?? []), hook]);
  }

  /** Whether there is a hook for such an event, of the state of that name if one is given. */
  has(reason: StateHookReason, name?: string): boolean {
    const ofReason = this.hooks.get(reason);
    return name === undefined ? ofReason !== undefined : ofReason?.has(name) === true;
  }

  /** Lets the hooks be called for what has happened to the state of that name. */
  announce(reason: StateHookReason, name: string, ident: string, read: StateReader): void {
    if (this.isStopped) return;
    for (const hook of this.hooks.get(reason)?.get(name) ?? []) {
      const due = new DueHook(hook, ident, read);
      if (this.last === undefined) this.first = due;
      else this.last.next = due;
      this.last = due;
      this.schedule();
    }
  }

  /** {@link announce} for a state that is known as one of its class. */
  announceState(reason: StateHookReason, definition: StateDefinition, ident: string, state: Snapshot): void {
    if (!this.has(reason)) return;
    this.announce(reason, definition.name, ident, ({ cls }) => (cls === definition.cls ? state : undefined));
  }

  /** Settles when everything due has been called and has ended, or after that time. */
  async settle(timeoutMs: number): Promise<void> {
    if (this.isIdle) return;
    this.idle ??= new Deferred();
    const timer = this.clock.startTimer(this.idle.resolve, timeoutMs, 'awaited');
    await this.idle.promise;
    this.idle = undefined;
    timer.cancel();
  }

  /** From here on nothing is called any more. Returns how many calls are not over. */
  stop(): number {
    this.isStopped = true;
    let left = this.running;
    for (let due = this.first; due !== undefined; due = due.next) left += 1;
    this.first = undefined;
    this.last = undefined;
    return left;
  }

  private get isIdle(): boolean {
    return this.first === undefined && this.running === 0;
  }

  private schedule(): void {
    if (this.isScheduled) return;
    this.isScheduled = true;
    this.clock.startImmediate(this.callDue);
  }

  private readonly callDue = (): void => {
    this.isScheduled = false;
    const endMs = this.clock.nowMs() + SLICE_MS;
    for (let due = this.first; due !== undefined; due = this.first) {
      this.first = due.next;
      if (due.next === undefined) this.last = undefined;
      this.call(due);
      if (this.clock.nowMs() >= endMs) break;
    }
    if (this.first !== undefined) this.schedule();
    this.sayIfIdle();
  };

  private call({ hook, ident, read }: DueHook): void {
    const { reason, cls } = hook;
    try {
      const token = new StateToken(ident, cls);
      const snapshot = read(token.definition);
      if (snapshot === undefined) return;
      const state = readable(snapshot, token.definition.name);
      // Whoever is asked to write may be inside of a turn by the clock's context: a hook must not join that one.
      const returned = runInFrame(undefined, hook.call, state, { reason, token });
      if (isThenable(returned)) void this.follow(hook, ident, returned);
    } catch (error) {
      this.report(hook, ident, error);
    }
  }

  private async follow(hook: StateHook, ident: string, returned: PromiseLike<unknown>): Promise<void> {
    this.running += 1;
    try {
      await returned;
    } catch (error) {
      this.report(hook, ident, error);
    } finally {
      this.running -= 1;
      this.sayIfIdle();
    }
  }

  private report({ name, reason }: StateHook, ident: string, error: unknown): void {
    try {
      this.logger.error(
        `${name} has failed, called because of '${reason}' (ident #${hashIdent(ident)}).`,
        error,
      );
    } catch {
      // It is the logger of the application that has failed, and there is nobody else to tell.
    }
  }

  private sayIfIdle(): void {
    if (this.idle !== undefined && this.isIdle) this.idle.resolve();
  }
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof (value as { then?: unknown } | null | undefined)?.then === 'function';
}

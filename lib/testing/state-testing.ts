import { Inject, Injectable } from '@nestjs/common';
import type { Immutable } from 'immer';
import { firstValueFrom } from 'rxjs';
import { TokenSignature } from '../injection/token-signature.js';
import { StateManager } from '../managers/state.manager.js';
import { STATE_OPTIONS } from '../state.constants.js';
import type { ResolvedStateOptions } from '../state.options.js';
import type { StateToken } from '../state.token.js';

/** What a test needs to set states, to look at them, and to know that nothing was left behind. */
@Injectable()
export class StateTesting {
  constructor(
    @Inject(StateManager) private readonly manager: StateManager,
    @Inject(STATE_OPTIONS) private readonly options: ResolvedStateOptions,
  ) {}

  /**
   * Stores a state: the given fields, and the others as they are in a fresh one. Replaces what was stored; waits for an
   * open turn of the ident, as every writer does.
   *
   * @throws {StateSerializationError} when a field cannot be stored.
   */
  async seed<T extends object>(token: StateToken<T>, fields: Partial<T> = {}): Promise<void> {
    await this.manager.setState(token, Object.assign(new token.cls(), fields));
  }

  /**
   * What is committed, or `undefined` when nothing is stored. Unlike `getState` it is no use of the state: its idle time
   * goes on.
   */
  async read<T>(token: StateToken<T>): Promise<Immutable<T> | undefined> {
    const { state, version } = await firstValueFrom(this.manager.watch(token));
    return version === 0 ? undefined : state;
  }

  /**
   * The headers that make a request one of `ident`, signed where `token.secret` asks for it. For the resolver that comes
   * with the library: one of your own looks where you told it to.
   */
  headers(ident: string): Record<string, string> {
    const { header, secrets } = this.options.token;
    return { [header]: secrets.length === 0 ? ident : new TokenSignature(secrets).sign(ident) };
  }

  /**
   * Nobody holds a lock, and nobody waits for one: for after each test.
   *
   * @throws {Error} naming who does, and for how long.
   */
  assertNoLocks(): void {
    const { openTurns, waiting, turns, oldestWaiter } = this.manager.inspect();
    if (openTurns === 0 && waiting === 0) return;
    const held = turns.map(({ label, heldMs }) => `held by ${label} for ${Math.round(heldMs)} ms`);
    const waits =
      oldestWaiter === undefined
        ? []
        : [`waited for by ${oldestWaiter.label} for ${Math.round(oldestWaiter.waitedMs)} ms`];
    throw new Error(
      `${openTurns} locks are held, ${waiting} callers wait: ${[...held, ...waits].join(', ')}.`,
    );
  }
}

import { Logger, type ExecutionContext } from '@nestjs/common';
import type { LockingStateManager } from '../managers/locking-state.manager.js';
import { STATE_ERROR_CODES, StateError } from '../state.errors.js';
import type { ClientTokens, TokenSource } from './client-tokens.js';
import { giveIdent } from './handshake.js';

/** The last moment that a Date can name. */
const LAST_MS = 8.64e15;

/** What a session needs of the module, and the request it is of. */
export interface SessionHost {
  readonly manager: LockingStateManager;
  readonly tokens: ClientTokens;
  readonly expirationMs: number;
  readonly context: ExecutionContext;
  readonly onRenamed: (ident: string) => void;
}

/**
 * The client's side of its states: the ident it is known by, and the two things that can happen to it.
 *
 * Inside an open turn of that ident (a handler with a state of the client, `modifyState`) both join it: what they do is stored
 * with what the turn has changed, or not at all, and the cookie only goes out when it is. Without one they take a turn of
 * their own, which is committed when they resolve.
 */
export class StateSession {
  readonly #host: SessionHost;
  #ident: string;
  #source: TokenSource | undefined;
  #isSourceKnown = false;
  #isDestroyed = false;
  #last: Promise<unknown> = Promise.resolve();

  /** @internal Injected by `@InjectStateSession()`. */
  constructor(host: SessionHost, ident: string) {
    this.#host = host;
    this.#ident = ident;
  }

  /** The ident of the client, the new one after {@link regenerate}. It is the credential itself: it belongs into no log. */
  get ident(): string {
    return this.#ident;
  }

  /**
   * What the client has to send to be that ident: signed where there is a secret. `undefined` where a resolver of the
   * application says who the client is.
   */
  get token(): string | undefined {
    return this.#sourceOfIdent() === undefined ? undefined : this.#host.tokens.tokenOf(this.#ident);
  }

  /** The ident was made for this request: nothing came with it that could be used. */
  get isNew(): boolean {
    return this.#sourceOfIdent() === 'issued';
  }

  /**
   * When the states go if nobody uses them from now on. Every use begins a new window, the end of this handler's turn too, so
   * it is the earliest time, and says nothing to a handler that uses no state. `undefined` after {@link destroy}.
   */
  get expiresAt(): Date | undefined {
    if (this.#isDestroyed) return undefined;
    return new Date(Math.min(Date.now() + this.#host.expirationMs, LAST_MS));
  }

  /**
   * Gives the client a new random ident and moves all of its states there; the old ident is fresh from then on. Do it
   * whenever somebody logs in or gets more rights: who has planted or seen the old token has nothing of it.
   *
   * Resolves with the token that the client has to send from now on. Where it came as a cookie the answer sets the new one.
   * A client with a header has to be told; so has that of a gateway, whose socket has the new ident from then on.
   *
   * @throws {StateError} `STATE_NO_SESSION` where a `token.resolver` says who the client is, and where it could not be told
   * because the answer has begun; where that begins later it is the commit that fails with it. @throws what
   * `StateManager.renameState` throws.
   */
  regenerate(): Promise<string> {
    return this.#afterOthers(() => this.#regenerate());
  }

  /**
   * Deletes all states of the client and, where its token came as a cookie, takes that from it. Resolves with whether anything
   * was stored. What is changed afterwards, in the same turn too, is stored under an ident that the client does not have any
   * more; {@link regenerate} gives it another one.
   *
   * @throws what `StateManager.deleteState` throws.
   */
  destroy(): Promise<boolean> {
    return this.#afterOthers(() => this.#destroy());
  }

  async #regenerate(): Promise<string> {
    const { manager, tokens, context, onRenamed } = this.#host;
    const source = this.#sourceOfIdent();
    if (source === undefined)
      throw new StateError(
        STATE_ERROR_CODES.noSession,
        'The session was not regenerated: its ident comes from a resolver of the application, which would not find a new ' +
          'one. Change what the resolver goes by.',
      );
    // Looked at again before it is stored: nobody would have the new ident, and so none of the states.
    const check = (): void => {
      if (isCookie(source) && !tokens.canSetCookie(context))
        throw new StateError(
          STATE_ERROR_CODES.noSession,
          'The session was not regenerated: the answer has begun, and cannot bring the new cookie. Do it before.',
        );
    };
    check();
    const before = this.#ident;
    const ident = tokens.newIdent();
    let isOver = false;
    const onEnd = (isStored: boolean): void => {
      isOver = true;
      this.#ident = isStored ? ident : before;
      if (!isStored) return;
      onRenamed(ident);
      if (source === 'issued') tokens.noteIssued(context, ident);
      if (isCookie(source)) this.#answer(() => tokens.setCookie(context, ident));
      else if (context.getType() === 'ws') giveIdent(context.switchToWs().getClient(), ident);
    };
    await manager.moveStates({ from: before, to: ident, isUnknown: true, check, onEnd });
    if (!isOver) this.#ident = ident;
    this.#isDestroyed = false;
    return tokens.tokenOf(ident);
  }

  async #destroy(): Promise<boolean> {
    const { manager, tokens, context } = this.#host;
    const source = this.#sourceOfIdent();
    const existed = await manager.deleteStates(this.#ident, (isStored) => {
      if (isStored && isCookie(source)) this.#answer(() => tokens.clearCookie(context));
      this.#isDestroyed = isStored;
    });
    this.#isDestroyed = true;
    return existed;
  }

  /** Lets the answer bring a cookie. What is stored is stored, whether or not that is possible any more. */
  #answer(setCookie: () => void): void {
    const { tokens, context } = this.#host;
    if (tokens.canSetCookie(context)) setCookie();
    else
      new Logger(StateSession.name).error(
        `${context.getClass().name}.${context.getHandler().name} answered before its commit: the cookie of the client could ` +
          'not be changed. Return the answer instead of sending it.',
      );
  }

  /** Where the ident came from that the request had at first. */
  #sourceOfIdent(): TokenSource | undefined {
    if (!this.#isSourceKnown) {
      this.#isSourceKnown = true;
      const { tokens, context } = this.#host;
      this.#source = tokens.sourceOf(context, this.#ident);
    }
    return this.#source;
  }

  /** One after the other: each begins with the ident that the one before has left. */
  #afterOthers<T>(run: () => Promise<T>): Promise<T> {
    const result = this.#last.then(run);
    this.#last = result.catch(() => undefined);
    return result;
  }
}

function isCookie(source: TokenSource | undefined): boolean {
  return source === 'cookie' || source === 'issued';
}

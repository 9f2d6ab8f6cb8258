/** Every `code` a {@link StateError} can carry: stable, for logs, metrics and clients. */
export const STATE_ERROR_CODES = {
  lockTimeout: 'STATE_LOCK_TIMEOUT',
  tooManyWaiters: 'STATE_TOO_MANY_WAITERS',
  lockExpired: 'STATE_LOCK_EXPIRED',
  serialization: 'STATE_SERIALIZATION',
  invalidToken: 'STATE_INVALID_TOKEN',
  invalidOptions: 'STATE_INVALID_OPTIONS',
  invalidManagerMode: 'STATE_INVALID_MANAGER_MODE',
  storeUnavailable: 'STATE_STORE_UNAVAILABLE',
  managerClosed: 'STATE_MANAGER_CLOSED',
  turnEnded: 'STATE_TURN_ENDED',
  noCurrentState: 'STATE_NO_CURRENT_STATE',
  nestedTurns: 'STATE_NESTED_TURNS',
  identInUse: 'STATE_IDENT_IN_USE',
  noSession: 'STATE_NO_SESSION',
} as const;

/** One of the values of {@link STATE_ERROR_CODES}. */
export type StateErrorCode = (typeof STATE_ERROR_CODES)[keyof typeof STATE_ERROR_CODES];

/**
 * What every error of the library is an instance of.
 *
 * Guarantee: the message never contains an ident; `cause` is what it was caused by, where there is such a thing.
 */
export class StateError extends Error {
  constructor(
    /** Stable name of the outcome. */
    readonly code: StateErrorCode,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
    this.name = new.target.name;
  }
}

/** The lock was not free within `acquireTimeout`. The caller never ran; trying again later is safe. */
export class LockTimeoutError extends StateError {
  constructor(message: string, options?: ErrorOptions) {
    super(STATE_ERROR_CODES.lockTimeout, message, options);
  }
}

/** `maxWaiters` callers were queued for that ident already. The caller never ran; trying again later is safe. */
export class TooManyWaitersError extends StateError {
  constructor(message: string, options?: ErrorOptions) {
    super(STATE_ERROR_CODES.tooManyWaiters, message, options);
  }
}

/** The turn lost its lock before it committed: nothing of it is stored, whatever another holder committed stands. */
export class LockExpiredError extends StateError {
  constructor(message: string, options?: ErrorOptions) {
    super(STATE_ERROR_CODES.lockExpired, message, options);
  }
}

/** A state holds a value that cannot be stored. What was stored before is untouched and the lock is free. */
export class StateSerializationError extends StateError {
  constructor(
    /** Where the value stands, for example `CartState.items[2].onChange`. */
    readonly path: string,
    problem: string,
    options?: ErrorOptions,
  ) {
    super(STATE_ERROR_CODES.serialization, `${path} ${problem}`, options);
  }
}

/** Why a token was refused: there was none, it is no usable ident, it has no valid signature, its class is no state class. */
export type InvalidStateTokenReason = 'missing' | 'malformed' | 'forged' | 'not-a-state-class';

/** A token that names no state. Nothing was read, stored or locked. */
export class InvalidStateTokenError extends StateError {
  constructor(
    readonly reason: InvalidStateTokenReason,
    message: string,
    options?: ErrorOptions,
  ) {
    super(STATE_ERROR_CODES.invalidToken, message, options);
  }
}

/** The options, the environment or the handlers of the app are not usable. `problems` lists everything found. */
export class InvalidStateOptionsError extends StateError {
  constructor(
    readonly problems: readonly string[],
    code: StateErrorCode = STATE_ERROR_CODES.invalidOptions,
  ) {
    super(
      code,
      `nestjs-state cannot be used like this:\n${problems.map((problem) => `  - ${problem}`).join('\n')}`,
    );
  }
}

/** The configured `mode` is unknown or cannot be had. `problems` lists everything found, the mode first. */
export class InvalidStateManagerModeError extends InvalidStateOptionsError {
  constructor(problems: readonly string[]) {
    super(problems, STATE_ERROR_CODES.invalidManagerMode);
  }
}

/** The store did not answer in time. Whether a commit that was on its way took effect is unknown. */
export class StateStoreUnavailableError extends StateError {
  constructor(message: string, options?: ErrorOptions) {
    super(STATE_ERROR_CODES.storeUnavailable, message, options);
  }
}

/** The manager is shutting down, or has been shut down. */
export class StateManagerClosedError extends StateError {
  constructor(message = 'The state manager is closed: the application is shutting down.') {
    super(STATE_ERROR_CODES.managerClosed, message);
  }
}

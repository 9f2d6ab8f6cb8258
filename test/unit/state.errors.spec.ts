import { describe, expect, it } from '@jest/globals';
import {
  InvalidStateManagerModeError,
  InvalidStateOptionsError,
  InvalidStateTokenError,
  LockExpiredError,
  LockTimeoutError,
  STATE_ERROR_CODES,
  StateError,
  StateManagerClosedError,
  StateSerializationError,
  StateStoreUnavailableError,
  TooManyWaitersError,
} from 'nestjs-state';

const cause = new Error('cause');

describe('the errors', () => {
  it.each<[string, StateError, string]>([
    ['LockTimeoutError', new LockTimeoutError('text', { cause }), STATE_ERROR_CODES.lockTimeout],
    ['TooManyWaitersError', new TooManyWaitersError('text', { cause }), STATE_ERROR_CODES.tooManyWaiters],
    ['LockExpiredError', new LockExpiredError('text', { cause }), STATE_ERROR_CODES.lockExpired],
    [
      'StateSerializationError',
      new StateSerializationError('Cart.a', 'is text', { cause }),
      STATE_ERROR_CODES.serialization,
    ],
    [
      'InvalidStateTokenError',
      new InvalidStateTokenError('malformed', 'text', { cause }),
      STATE_ERROR_CODES.invalidToken,
    ],
    [
      'StateStoreUnavailableError',
      new StateStoreUnavailableError('text', { cause }),
      STATE_ERROR_CODES.storeUnavailable,
    ],
  ])('%s is a StateError with its name, its code and its cause', (name, error, code) => {
    expect(error).toBeInstanceOf(StateError);
    expect(error).toBeInstanceOf(Error);
    expect(error).toMatchObject({ name, code, cause });
    expect(error.message).toContain('text');
    expect(String(error)).toContain(name);
  });

  it('StateManagerClosedError says what is the matter', () => {
    expect(new StateManagerClosedError()).toMatchObject({
      name: 'StateManagerClosedError',
      code: STATE_ERROR_CODES.managerClosed,
    });
    expect(new StateManagerClosedError().message).toContain('shutting down');
  });

  it('StateSerializationError begins with the path', () => {
    const error = new StateSerializationError('CartState.items[2].onChange', 'is a function');

    expect(error.path).toBe('CartState.items[2].onChange');
    expect(error.message).toBe('CartState.items[2].onChange is a function');
  });

  it('the errors of the options list every problem; that of the mode is one of them', () => {
    const options = new InvalidStateOptionsError(['first', 'second']);
    const mode = new InvalidStateManagerModeError(['first', 'second']);

    expect(options.message).toContain('  - first\n  - second');
    expect(mode).toBeInstanceOf(InvalidStateOptionsError);
    expect([options.code, mode.code]).toStrictEqual([
      STATE_ERROR_CODES.invalidOptions,
      STATE_ERROR_CODES.invalidManagerMode,
    ]);
    expect([options.name, mode.name]).toStrictEqual([
      'InvalidStateOptionsError',
      'InvalidStateManagerModeError',
    ]);
    expect(mode.problems).toStrictEqual(['first', 'second']);
  });

  it('the codes are all different', () => {
    const codes = Object.values(STATE_ERROR_CODES);

    expect(new Set(codes).size).toBe(codes.length);
  });
});

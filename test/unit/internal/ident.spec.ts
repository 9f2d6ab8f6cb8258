import { describe, expect, it } from '@jest/globals';
import { InvalidStateTokenError } from 'nestjs-state';
import { assertIdent, hashIdent, MAX_IDENT_LENGTH } from '../../../lib/internal/ident.js';

describe('assertIdent', () => {
  it.each(['a', 'room:1', 'x'.repeat(MAX_IDENT_LENGTH), '\u{1F600}', 'ümläut', '../..', 'a b', '0'])(
    'takes %p',
    (ident) => {
      expect(() => assertIdent(ident)).not.toThrow();
    },
  );

  it.each<[string, unknown]>([
    ['an empty text', ''],
    ['too long a text', 'x'.repeat(MAX_IDENT_LENGTH + 1)],
    ['a line break', 'secret\n'],
    ['a NUL', 'secret\u0000'],
    ['DEL', 'secret\u007f'],
    ['a C1 control character', 'secret\u0085'],
    ['half a surrogate pair', 'secret\ud83d'],
    ['a number', 5],
    ['null', null],
    ['undefined', undefined],
    ['an array', ['secret']],
    ['an object', { toString: () => 'secret' }],
  ])('refuses %s, and does not repeat it', (_, ident) => {
    let failure: unknown;
    try {
      assertIdent(ident);
    } catch (error) {
      failure = error;
    }
    expect(failure).toBeInstanceOf(InvalidStateTokenError);
    expect(failure).toMatchObject({ reason: 'malformed', code: 'STATE_INVALID_TOKEN' });
    expect((failure as Error).message).not.toContain('secret');
  });
});

describe('hashIdent', () => {
  it('is short, stable, and tells idents apart', () => {
    expect(hashIdent('a')).toBe('ca978112ca1b');
    expect(hashIdent('b')).not.toBe(hashIdent('a'));
    expect(hashIdent('x'.repeat(256))).toMatch(/^[0-9a-f]{12}$/);
  });
});

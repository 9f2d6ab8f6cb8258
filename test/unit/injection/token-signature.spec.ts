import { describe, expect, it } from '@jest/globals';
import { TokenSignature } from '../../../lib/injection/token-signature.js';

const NEW = 'the secret of this year';
const OLD = 'the secret of last year';
const IDENTS = ['ann', 'a.b', '.', 'ä€😀', 'x'.repeat(256), ''];
const BASE64URL = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';

describe('TokenSignature', () => {
  it.each(IDENTS)('verifies what it has signed: %j', (ident) => {
    const signature = new TokenSignature([NEW, OLD]);
    expect(signature.verify(signature.sign(ident))).toEqual({ ident, isOutdated: false });
    expect(signature.verify(new TokenSignature([OLD]).sign(ident))).toEqual({ ident, isOutdated: true });
    expect(new TokenSignature([OLD]).verify(signature.sign(ident))).toBeUndefined();
  });

  it('takes no other text for a token, whatever single character is changed, added or left out', () => {
    const signature = new TokenSignature([NEW]);
    const token = signature.sign('ann');
    for (let index = 0; index <= token.length; index += 1) {
      const [head, tail] = [token.slice(0, index), token.slice(index)];
      for (const character of [...BASE64URL, '.', '=', '+', '/', ' ', '\n', '\0', 'Ł', '']) {
        for (const other of [head + character + tail, head + character + tail.slice(1)])
          if (other !== token) expect(signature.verify(other)).toBeUndefined();
      }
    }
  });

  it.each([
    '',
    '.',
    'ann',
    'ann.',
    `.${'A'.repeat(43)}`,
    `ann.${'A'.repeat(43)}`,
    `ann.${'\ud800'.repeat(43)}`,
  ])('takes no text for a token that nobody has signed: %j', (text) => {
    expect(new TokenSignature([NEW, OLD]).verify(text)).toBeUndefined();
  });
});

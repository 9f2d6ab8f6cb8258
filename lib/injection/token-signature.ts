import { createHmac, timingSafeEqual } from 'node:crypto';

/** What a valid token says. */
export interface VerifiedToken {
  readonly ident: string;
  /** The first secret has not signed it. */
  readonly isOutdated: boolean;
}

/**
 * Signs idents that clients carry: `<ident>.<signature>`, HMAC-SHA256 in base64url.
 *
 * Guarantee: `verify` returns only what `sign` was given by somebody who knows one of the secrets, and for each of them one
 * token alone is valid. It takes the same time wherever two signatures differ, and whichever secret fits.
 */
export class TokenSignature {
  constructor(private readonly secrets: readonly string[]) {}

  /** The token of `ident`, signed with the first secret. */
  sign(ident: string): string {
    return `${ident}.${signatureOf(ident, this.secrets[0] as string)}`;
  }

  /** What `token` says, or `undefined` when its signature is missing or wrong. */
  verify(token: string): VerifiedToken | undefined {
    const dot = token.lastIndexOf('.');
    if (dot < 0) return undefined;
    const ident = token.slice(0, dot);
    // The texts are compared: decoding them would let other texts through that decode to the same bytes.
    const given = Buffer.from(token.slice(dot + 1));
    let fitting = -1;
    for (let index = this.secrets.length - 1; index >= 0; index -= 1) {
      const expected = Buffer.from(signatureOf(ident, this.secrets[index] as string));
      if (expected.length === given.length && timingSafeEqual(expected, given)) fitting = index;
    }
    return fitting < 0 ? undefined : { ident, isOutdated: fitting > 0 };
  }
}

function signatureOf(ident: string, secret: string): string {
  return createHmac('sha256', secret).update(ident).digest('base64url');
}

import { createHmac, timingSafeEqual } from 'node:crypto';

/**
 * Signs idents that clients carry: `<ident>.<signature>`, HMAC-SHA256 in base64url.
 *
 * Guarantee: `verify` returns only what `sign` was given by somebody who knows one of the secrets; comparing takes the
 * same time wherever two signatures differ.
 */
export class TokenSignature {
  constructor(private readonly secrets: readonly string[]) {}

  /** The token of `ident`, signed with the first secret. */
  sign(ident: string): string {
    return `${ident}.${digest(ident, this.secrets[0] as string).toString('base64url')}`;
  }

  /** The ident of `token`, or `undefined` when its signature is missing or wrong. */
  verify(token: string): string | undefined {
    const dot = token.lastIndexOf('.');
    if (dot < 0) return undefined;
    const ident = token.slice(0, dot);
    const signature = Buffer.from(token.slice(dot + 1), 'base64url');
    const isValid = this.secrets
      .map((secret) => digest(ident, secret))
      .some((expected) => expected.length === signature.length && timingSafeEqual(expected, signature));
    return isValid ? ident : undefined;
  }
}

function digest(ident: string, secret: string): Buffer {
  return createHmac('sha256', secret).update(ident).digest();
}

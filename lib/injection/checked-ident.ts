import { assertIdent } from '../internal/ident.js';

/**
 * What a resolver has found, as an ident. Whoever does not wait for a promise of it is safe from what that rejects with.
 *
 * @throws {InvalidStateTokenError} `malformed`; a promise rejects with it.
 */
export function checkedIdent(found: string | Promise<string>): string | Promise<string> {
  if (!isThenable(found)) return checked(found);
  // A query that is no Promise has a `then` all the same.
  const ident = Promise.resolve(found).then(checked);
  // When the ident of another parameter fails first, nobody waits for this one: its failure must not end the process.
  ident.catch(() => undefined);
  return ident;
}

function checked(ident: unknown): string {
  assertIdent(ident);
  return ident;
}

function isThenable(value: string | Promise<string>): value is Promise<string> {
  return typeof value !== 'string' && typeof (value as { then?: unknown } | undefined)?.then === 'function';
}

import { hash } from 'node:crypto';
import { InvalidStateTokenError } from '../state.errors.js';

/** The longest ident, in UTF-16 code units. */
export const MAX_IDENT_LENGTH = 256;

// Control characters make log lines and headers lie; half a surrogate pair has no UTF-8 form of its own, so that two
// different idents could meet in one hash.
const FORBIDDEN = /[\p{Cc}\p{Cs}]/u;

/** @throws {InvalidStateTokenError} `malformed`, unless `ident` is a non-empty, well-formed string of at most {@link MAX_IDENT_LENGTH}. */
export function assertIdent(ident: unknown): asserts ident is string {
  const problem = problemOf(ident);
  if (problem !== undefined) {
    throw new InvalidStateTokenError('malformed', `Not a usable ident: it ${problem}.`);
  }
}

function problemOf(ident: unknown): string | undefined {
  if (typeof ident !== 'string')
    return `is ${Array.isArray(ident) ? 'an array' : `of type ${typeof ident}`}, not a string`;
  if (ident === '') return 'is empty';
  if (ident.length > MAX_IDENT_LENGTH) return `has ${ident.length} characters, more than ${MAX_IDENT_LENGTH}`;
  if (FORBIDDEN.test(ident)) return 'contains control characters or half a surrogate pair';
  return undefined;
}

/** What logs, errors and events show instead of an ident, which is a credential: 12 hexadecimal digits. */
export function hashIdent(ident: string): string {
  return hash('sha256', ident, 'hex').slice(0, 12);
}

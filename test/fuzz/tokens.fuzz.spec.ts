import type { IncomingHttpHeaders } from 'node:http';
import type { ExecutionContext } from '@nestjs/common';
import type { HttpAdapterHost } from '@nestjs/core';
import { ExecutionContextHost } from '@nestjs/core/helpers/execution-context-host.js';
import { describe, expect, it } from '@jest/globals';
import { InvalidStateTokenError, StateTokenResolver, type StateTokenOptions } from 'nestjs-state';
import { TokenSignature } from '../../lib/injection/token-signature.js';
import { resolveStateOptions } from '../../lib/state.options.resolve.js';
import { ByteFuzzer, SEED, tries } from './bytes.js';

const HEADERS = tries(250);
const COOKIES = tries(250);
const HANDSHAKES = tries(150);
/** How long one of them may take, in milliseconds: a pause of the machine among it. */
const LONGEST_MS = 1_000;

const SECRETS = ['the secret of today, long enough', 'the secret of yesterday, long enough'];
const VICTIMS = ['alice-0123456789abcdef', 'bob.with.dots', 'ü-ident', 'room:lobby'];
const ISSUED = /^[\w-]{32}$/;

const tokensOf = (ident: string): string[] =>
  SECRETS.map((_, first) => new TokenSignature(SECRETS.slice(first)).sign(ident));
const VALID = new Map(VICTIMS.flatMap((ident) => tokensOf(ident).map((token) => [token, ident] as const)));
const FOREIGN = VICTIMS.map((ident) =>
  new TokenSignature(['the secret of somebody else, as long']).sign(ident),
);

interface Said {
  readonly headers: IncomingHttpHeaders;
  readonly auth?: unknown;
}

class Resolver {
  private readonly resolver: StateTokenResolver;

  constructor(token: StateTokenOptions) {
    const options = resolveStateOptions({ mode: 'memory', token }, () => undefined);
    const host = { httpAdapter: { appendHeader: () => undefined } } as unknown as HttpAdapterHost;
    this.resolver = new StateTokenResolver(options, host);
  }

  /** The ident, or why there is none. @throws whatever is no answer to a bad token, or comes too late. */
  resolve(type: 'http' | 'ws', said: Said): string | InvalidStateTokenError {
    const context = new ExecutionContextHost(
      type === 'http' ? [{ ...said, protocol: 'https' }, {}] : [{ handshake: said }],
    );
    context.setType(type);
    const startMs = performance.now();
    const outcome = this.attempt(context);
    const tookMs = performance.now() - startMs;
    if (tookMs > LONGEST_MS) throw new Error(`${tookMs} ms for ${JSON.stringify(said)}`);
    return outcome;
  }

  private attempt(context: ExecutionContext): string | InvalidStateTokenError {
    try {
      return this.resolver.resolve(context) as string;
    } catch (error) {
      if (error instanceof InvalidStateTokenError) return error;
      throw error;
    }
  }
}

const signed = new Resolver({ secret: SECRETS });
const strict = new Resolver({ secret: SECRETS, onMissing: 'reject' });
const unsigned = new Resolver({ onMissing: 'reject' });

const texts = (round: number, samples: readonly string[]): (() => string) => {
  const fuzzer = new ByteFuzzer(
    SEED + round,
    samples.map((sample) => Buffer.from(sample)),
  );
  // As Node gives headers, and as JSON gives texts.
  return () => fuzzer.next().toString(fuzzer.below(2) === 0 ? 'latin1' : 'utf8');
};

const SAMPLES = [...VALID.keys(), ...FOREIGN, ...VICTIMS];

/** What nobody has signed is nobody's. */
function expectOwn(outcome: string | InvalidStateTokenError, token: string, said: Said): void {
  if (typeof outcome !== 'string' || VALID.get(token) === outcome) return;
  throw new Error(`${JSON.stringify(said)} is taken for ${JSON.stringify(outcome)}`);
}

const UNUSUAL: readonly unknown[] = [
  null,
  0,
  true,
  [],
  {},
  ['alice-0123456789abcdef'],
  { toString: () => 'alice-0123456789abcdef' },
  { length: 3 },
  Symbol.iterator,
  () => 'alice',
  new Map(),
  JSON.parse('{"__proto__":{"token":"alice"}}'),
  'x'.repeat(1_000_000),
  `${'.'.repeat(300)}`,
];

describe(`Tokens that somebody has made up (FUZZ_SEED=${SEED})`, () => {
  it('name nobody else in a header', () => {
    const next = texts(1, SAMPLES);
    let taken = 0;
    for (let number = 0; number < HEADERS; number += 1) {
      const token = next();
      const said = { headers: { 'x-state-token': token } };
      const outcome = (number % 2 === 0 ? signed : strict).resolve('http', said);
      expectOwn(outcome, token, said);
      if (typeof outcome === 'string') taken += 1;
      // Without a secret a token is an ident, and that one alone.
      const plain = unsigned.resolve('http', said);
      if (typeof plain === 'string' && plain !== token) throw new Error(`${token} is taken for ${plain}`);
    }
    // Those that were changed back to what they were.
    expect(taken).toBeLessThan(HEADERS / 10);
  });

  it('name nobody else in a cookie: they are refused, or replaced by a new one', () => {
    const next = texts(
      2,
      SAMPLES.flatMap((token) => [`state_token=${token}`, `a=b; state_token=${token}; state_token=x`, `state_token="${token}"`]), // prettier-ignore
    );
    let issued = 0;
    for (let number = 0; number < COOKIES; number += 1) {
      const cookie = next();
      const said = { headers: { cookie } };
      const outcome = (number % 2 === 0 ? signed : strict).resolve('http', said);
      if (typeof outcome !== 'string') continue;
      const isNew = number % 2 === 0 && ISSUED.test(outcome) && !VICTIMS.includes(outcome);
      if (isNew) issued += 1;
      // Whoever is found in it: one of his tokens stands there, whole.
      else if (!tokensOf(outcome).some((token) => decoded(cookie).includes(token)))
        throw new Error(`${JSON.stringify(cookie)} is taken for ${JSON.stringify(outcome)}`);
    }
    expect(issued).toBeGreaterThan(COOKIES / 10);
  });

  it('name nobody else in a handshake, whatever a client puts there', () => {
    const next = texts(3, SAMPLES);
    for (let number = 0; number < HANDSHAKES; number += 1) {
      const token = next();
      const odd = UNUSUAL[number % UNUSUAL.length];
      const said: Said =
        number % 5 === 0
          ? { headers: { 'x-state-token': [token, token] as unknown as string }, auth: odd }
          : {
              headers: { cookie: `state_token=${token}` },
              auth: number % 3 === 0 ? { token: odd } : { token },
            };
      const outcome = strict.resolve('ws', said);
      expectOwn(outcome, token, said);
      if (number % 3 === 0 || number % 5 === 0)
        expect(typeof outcome === 'string' && number % 5 === 0).toBe(false);
    }
  });
});

/** The cookie as whoever reads it may see it. */
function decoded(cookie: string): string {
  return (
    cookie +
    cookie.replaceAll(/(?:%[\da-f]{2})+/gi, (coded) => {
      try {
        return decodeURIComponent(coded);
      } catch {
        return coded;
      }
    })
  );
}

import type { OnMissingToken, ResolvedStateOptions, TokenSameSite } from './state.options.js';
import {
  MIN_SECRET_LENGTH,
  parseCookiePath,
  parseDomain,
  parseHttpName,
  parseOnMissing,
  parseResolver,
  parseSameSite,
  parseSecrets,
  parseSecure,
} from './state.options.parsers.js';
import type { OptionReader } from './state.options.resolve.js';

type TokenOptions = ResolvedStateOptions['token'];

/** Where tokens come from, and what the cookie looks like that carries one. */
export function resolveTokenOptions(reader: OptionReader): TokenOptions {
  const cookieName = 'a cookie name';
  const headerName = 'a header name';
  const token: TokenOptions = {
    cookie:
      reader.value('token.cookie', ['STATE_TOKEN_COOKIE'], 'state_token', parseHttpName, cookieName) ?? '',
    header: (
      reader.value('token.header', ['STATE_TOKEN_HEADER'], 'x-state-token', parseHttpName, headerName) ?? ''
    ).toLowerCase(),
    onMissing:
      reader.value<OnMissingToken>(
        'token.onMissing',
        ['STATE_TOKEN_ON_MISSING'],
        'issue',
        parseOnMissing,
        "'issue' or 'reject'",
      ) ?? 'issue',
    secrets:
      reader.value(
        'token.secret',
        ['STATE_TOKEN_SECRET'],
        [],
        parseSecrets,
        `at least ${MIN_SECRET_LENGTH} characters, or a list of such`,
        'secret',
      ) ?? [],
    sameSite:
      reader.value<TokenSameSite>(
        'token.sameSite',
        ['STATE_TOKEN_SAME_SITE'],
        'lax',
        parseSameSite,
        "'lax', 'strict' or 'none'",
      ) ?? 'lax',
    secure:
      reader.value<boolean | 'auto'>(
        'token.secure',
        ['STATE_TOKEN_SECURE'],
        'auto',
        parseSecure,
        "true, false or 'auto'",
      ) ?? 'auto',
    path:
      reader.value(
        'token.path',
        ['STATE_TOKEN_PATH'],
        '/',
        parseCookiePath,
        'a path: a slash, and then no semicolon',
      ) ?? '/',
    domain: reader.value(
      'token.domain',
      ['STATE_TOKEN_DOMAIN'],
      undefined,
      parseDomain,
      'the name of a domain',
    ),
    resolver: reader.value(
      'token.resolver',
      [],
      undefined,
      parseResolver,
      'an injectable class or a function',
    ),
  };
  for (const problem of problemsOfCookie(token)) reader.refuse(problem);
  return token;
}

/** What a browser would drop without a word. */
function* problemsOfCookie({ cookie, sameSite, secure, path, domain }: TokenOptions): Generator<string> {
  const isSecure = secure === true;
  if (sameSite === 'none' && !isSecure)
    yield "token.sameSite: 'none' needs `token.secure: true`, or browsers drop the cookie.";
  // Browsers do not mind the case of these prefixes.
  const name = cookie.toLowerCase();
  const isHost = name.startsWith('__host-');
  if ((isHost || name.startsWith('__secure-')) && !isSecure)
    yield `token.cookie: ${cookie} needs \`token.secure: true\`, or browsers drop the cookie.`;
  if (isHost && path !== '/')
    yield `token.cookie: ${cookie} needs \`token.path\` to be '/', or browsers drop the cookie.`;
  if (isHost && domain !== undefined)
    yield `token.cookie: ${cookie} must have no \`token.domain\`, or browsers drop the cookie.`;
}

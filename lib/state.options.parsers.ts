import type { OnMissingToken, StateTokenResolverOption, TokenSameSite } from './state.options.js';

/** The shortest secret, in characters. */
export const MIN_SECRET_LENGTH = 16;
// The characters of an HTTP token: what a header or a cookie may be called.
const HTTP_NAME = /^[\w!#$%&'*+.^`|~-]+$/;
// As the browser takes it; a semicolon would begin another attribute.
const COOKIE_PATH = /^\/[\u0020-\u003A\u003D-\u007E]*$/;
const DOMAIN = /^\.?[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$/i;
// What may be credentials in a URL: everything before the last @, also when an unescaped / or @ in it makes it invalid.
const CREDENTIALS = /^([a-z+]*:\/\/)?.*@/is;

export function parseObject(value: unknown): object | undefined {
  return typeof value === 'object' && value !== null ? value : undefined;
}

export function parseText(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined;
}

export function parseFlag(value: unknown): boolean | undefined {
  if (value === true || value === 'true') return true;
  return value === false || value === 'false' ? false : undefined;
}

export function parseHttpName(value: unknown): string | undefined {
  return typeof value === 'string' && HTTP_NAME.test(value) ? value : undefined;
}

export function parseRedisUrl(value: unknown): string | undefined {
  return typeof value === 'string' && /^rediss?:\/\//.test(value) && URL.canParse(value) ? value : undefined;
}

export function parseOnMissing(value: unknown): OnMissingToken | undefined {
  return value === 'issue' || value === 'reject' ? value : undefined;
}

export function parseSameSite(value: unknown): TokenSameSite | undefined {
  return value === 'lax' || value === 'strict' || value === 'none' ? value : undefined;
}

export function parseSecure(value: unknown): boolean | 'auto' | undefined {
  if (value === true || value === 'true') return true;
  if (value === false || value === 'false') return false;
  return value === 'auto' ? value : undefined;
}

export function parseCookiePath(value: unknown): string | undefined {
  return typeof value === 'string' && COOKIE_PATH.test(value) ? value : undefined;
}

export function parseDomain(value: unknown): string | undefined {
  return typeof value === 'string' && DOMAIN.test(value) ? value : undefined;
}

export function parseSecrets(value: unknown): readonly string[] | undefined {
  // Blanks between the secrets of a list belong to none of them: with one, an old secret would fit no token any more.
  const secrets: unknown[] =
    typeof value === 'string'
      ? value.split(',').map((secret) => secret.trim())
      : Array.isArray(value)
        ? value
        : [];
  return secrets.length > 0 && secrets.every(isUsableSecret) ? secrets : undefined;
}

function isUsableSecret(secret: unknown): secret is string {
  return typeof secret === 'string' && secret.length >= MIN_SECRET_LENGTH;
}

export function parseResolver(value: unknown): StateTokenResolverOption | undefined {
  if (typeof value !== 'function') return undefined;
  const isClass = Function.prototype.toString.call(value).startsWith('class');
  return !isClass || isResolverClass(value) ? (value as StateTokenResolverOption) : undefined;
}

/** Whether a resolver option is a class with a `resolve` method, and not a function. */
export function isResolverClass(resolver: unknown): boolean {
  return typeof (resolver as { prototype?: { resolve?: unknown } }).prototype?.resolve === 'function';
}

export function show(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value.replace(CREDENTIALS, '$1***@'));
  return typeof value === 'object' && value !== null
    ? `a value of type ${Array.isArray(value) ? 'array' : 'object'}`
    : String(value);
}

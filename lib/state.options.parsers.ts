import type { OnMissingToken, StateTokenResolverOption } from './state.options.js';

/** The shortest secret, in characters. */
export const MIN_SECRET_LENGTH = 16;
// The characters of an HTTP token: what a header or a cookie may be called.
const HTTP_NAME = /^[\w!#$%&'*+.^`|~-]+$/;
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

export function parseSecrets(value: unknown): readonly string[] | undefined {
  const secrets: unknown[] = typeof value === 'string' ? value.split(',') : Array.isArray(value) ? value : [];
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

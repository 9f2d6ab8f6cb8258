import type { ResolvedStateOptions } from '../state.options.js';

/** An option as it is shown: its name, and milliseconds, a number, or a word. */
export interface ShownOption {
  readonly name: string;
  readonly value: number | string;
  readonly unit?: 'ms';
}

const time = (name: string, value: number): ShownOption => ({ name, value, unit: 'ms' });

/**
 * The options in force that may be shown. A list of what is, not of what is not: URLs have credentials, prefixes and paths
 * are the application's own affair, and an option that is added later is not shown until somebody has thought about it.
 */
export function shownOptions(options: ResolvedStateOptions): ShownOption[] {
  const { mode, memory, redis, disk, token } = options;
  return [
    { name: 'mode', value: mode },
    time('expiration', options.expirationMs),
    time('lockExpiration', options.lockExpirationMs),
    time('lockWarningThreshold', options.lockWarningThresholdMs),
    time('maxHold', options.maxHoldMs),
    time('acquireTimeout', options.acquireTimeoutMs),
    { name: 'maxWaiters', value: options.maxWaiters },
    time('drainTimeout', options.drainTimeoutMs),
    ...(mode === 'memory' ? [{ name: 'memory.maxStates', value: memory.maxStates }] : []),
    ...(mode === 'redis'
      ? [time('redis.leaseHold', redis.leaseHoldMs), time('redis.commandTimeout', redis.commandTimeoutMs)]
      : []),
    ...(mode === 'disk' ? [time('disk.flushInterval', disk.flushIntervalMs)] : []),
    { name: 'token.onMissing', value: token.onMissing },
    { name: 'token.secret', value: token.secrets.length > 0 ? 'set' : 'not set' },
    { name: 'token.sameSite', value: token.sameSite },
    { name: 'token.secure', value: String(token.secure) },
    { name: 'token.resolver', value: token.resolver === undefined ? 'default' : 'custom' },
  ];
}

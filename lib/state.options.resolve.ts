import { parseDurationMs, type Duration } from './internal/duration.js';
import type { StateManagerMode } from './managers/state.manager.js';
import { InvalidStateManagerModeError, InvalidStateOptionsError } from './state.errors.js';
import type { ResolvedStateOptions, StateModuleOptions } from './state.options.js';
import { parseFlag, parseObject, parseRedisUrl, parseText, show } from './state.options.parsers.js';
import { resolveTokenOptions } from './state.options.token.js';

/** Reads one configuration value, as `ConfigService.get` does. */
export type ReadConfiguration = (key: string) => unknown;

const MODES: readonly string[] = ['memory', 'redis', 'disk'] satisfies StateManagerMode[];

const KEYS = {
  root: [
    'mode',
    'expiration',
    'lockExpiration',
    'lockWarningThreshold',
    'maxHold',
    'acquireTimeout',
    'maxWaiters',
    'drainTimeout',
    'telemetry',
    'memory',
    'redis',
    'disk',
    'token',
  ],
  memory: ['maxStates'],
  redis: ['url', 'client', 'keyPrefix', 'leaseHold', 'commandTimeout'],
  disk: ['path', 'flushInterval'],
  token: ['cookie', 'header', 'onMissing', 'secret', 'sameSite', 'secure', 'path', 'domain', 'resolver'],
} as const;

type Group = 'memory' | 'redis' | 'disk' | 'token';

/**
 * Brings options, configuration and defaults together.
 *
 * @throws {InvalidStateOptionsError} listing everything that is wrong, each with its key, value and rule.
 * @throws {InvalidStateManagerModeError} the same, when the mode is among it.
 */
export function resolveStateOptions(
  options: StateModuleOptions,
  readConfiguration: ReadConfiguration,
): ResolvedStateOptions {
  const reader = new OptionReader(options, readConfiguration);
  const explicitMode = reader.mode();
  // Who says `memory` may have a REDIS_URL in the environment for something else, in whatever form that takes.
  const wantsRedis = explicitMode === undefined || explicitMode === 'redis';
  const client = reader.value('redis.client', [], undefined, parseObject, 'a Redis or Cluster of ioredis');
  const url = reader.value(
    'redis.url',
    wantsRedis ? ['STATE_REDIS_URL', 'REDIS_URL'] : [],
    undefined,
    parseRedisUrl,
    'a redis:// or rediss:// URL',
  );
  const resolved: ResolvedStateOptions = {
    mode: explicitMode ?? (url !== undefined || client !== undefined ? 'redis' : 'memory'),
    expirationMs: reader.duration('expiration', 'STATE_TOKEN_EXPIRATION', '1h', 'positive'),
    lockExpirationMs: reader.duration('lockExpiration', 'STATE_LOCK_EXPIRATION', '10s', 'positive'),
    lockWarningThresholdMs: reader.duration(
      'lockWarningThreshold',
      'STATE_LOCK_WARNING_THRESHOLD',
      '1s',
      'positive',
    ),
    maxHoldMs: reader.duration('maxHold', 'STATE_LOCK_MAX_HOLD', '60s', 'positive'),
    acquireTimeoutMs: reader.duration('acquireTimeout', 'STATE_LOCK_ACQUIRE_TIMEOUT', '30s', 'zero allowed'),
    maxWaiters: reader.count('maxWaiters', 'STATE_LOCK_MAX_WAITERS', 1_000, 0),
    drainTimeoutMs: reader.duration('drainTimeout', 'STATE_DRAIN_TIMEOUT', '10s', 'zero allowed'),
    telemetry: reader.value('telemetry', ['STATE_TELEMETRY'], true, parseFlag, "'true' or 'false'") ?? true,
    memory: { maxStates: reader.count('memory.maxStates', 'STATE_MEMORY_MAX_STATES', 1_000_000, 1) },
    redis: {
      url,
      client,
      keyPrefix:
        reader.value(
          'redis.keyPrefix',
          ['STATE_REDIS_KEY_PREFIX'],
          'state:',
          parseText,
          'a text that is not empty',
        ) ?? '',
      leaseHoldMs: reader.duration('redis.leaseHold', 'STATE_REDIS_LEASE_HOLD', 0, 'zero allowed'),
      commandTimeoutMs: reader.duration(
        'redis.commandTimeout',
        'STATE_REDIS_COMMAND_TIMEOUT',
        '2s',
        'positive',
      ),
    },
    disk: {
      path:
        reader.value('disk.path', ['STATE_DISK_PATH'], '.state', parseText, 'a text that is not empty') ?? '',
      flushIntervalMs: reader.duration('disk.flushInterval', 'STATE_DISK_FLUSH_INTERVAL', 0, 'zero allowed'),
    },
    token: resolveTokenOptions(reader),
  };
  reader.requireBelow(
    ['lockWarningThreshold', resolved.lockWarningThresholdMs],
    ['lockExpiration', resolved.lockExpirationMs],
  );
  reader.throwProblems();
  return resolved;
}

/** Takes options one by one, and notes what is wrong with them. */
export class OptionReader {
  private readonly problems: string[] = [];
  private modeProblem: string | undefined;

  constructor(
    private readonly options: StateModuleOptions,
    private readonly readConfiguration: ReadConfiguration,
  ) {
    this.refuseUnknownKeys('', options, KEYS.root);
    for (const group of ['memory', 'redis', 'disk', 'token'] as const) {
      if (options[group] !== undefined) this.refuseUnknownKeys(`${group}.`, options[group], KEYS[group]);
    }
  }

  mode(): StateManagerMode | undefined {
    const { source, value } = this.find('mode', ['STATE_MANAGER_MODE']);
    if (value === undefined) return undefined;
    if (MODES.includes(value as string)) return value as StateManagerMode;
    this.modeProblem = `${source}: ${show(value)} is not a state manager mode. Choose one of memory, redis, disk.`;
    return undefined;
  }

  duration(
    key: string,
    environmentKey: string,
    otherwise: Duration,
    range: 'positive' | 'zero allowed',
  ): number {
    const parse = (value: unknown) => {
      const milliseconds = parseDurationMs(value);
      return milliseconds === 0 && range === 'positive' ? undefined : milliseconds;
    };
    const rule = `a ${range === 'positive' ? 'positive ' : ''}duration: milliseconds, or a text such as '250ms', '10s', '1h'`;
    return this.value(key, [environmentKey], parseDurationMs(otherwise), parse, rule) ?? Number.NaN;
  }

  count(key: string, environmentKey: string, otherwise: number, least: number): number {
    const parse = (value: unknown) => {
      const number = typeof value === 'string' && /^\d+$/.test(value.trim()) ? Number(value) : value;
      return typeof number === 'number' && Number.isSafeInteger(number) && number >= least
        ? number
        : undefined;
    };
    return (
      this.value(key, [environmentKey], otherwise, parse, `a whole number of at least ${least}`) ?? Number.NaN
    );
  }

  value<T>(
    key: string,
    environmentKeys: readonly string[],
    otherwise: T | undefined,
    parse: (value: unknown) => T | undefined,
    rule: string,
    kind: 'plain' | 'secret' = 'plain',
  ): T | undefined {
    const { source, value } = this.find(key, environmentKeys);
    if (value === undefined) return otherwise;
    const parsed = parse(value);
    if (parsed !== undefined) return parsed;
    this.problems.push(`${source}: ${kind === 'secret' ? 'the given value' : show(value)} is not ${rule}.`);
    return otherwise;
  }

  requireBelow([lowKey, low]: [string, number], [highKey, high]: [string, number]): void {
    if (low >= high) this.problems.push(`${lowKey}: ${low} ms must be below ${highKey} (${high} ms).`);
  }

  refuse(problem: string): void {
    this.problems.push(problem);
  }

  throwProblems(): void {
    if (this.modeProblem !== undefined)
      throw new InvalidStateManagerModeError([this.modeProblem, ...this.problems]);
    if (this.problems.length > 0) throw new InvalidStateOptionsError(this.problems);
  }

  /** The first value that is given, and where it was found. An empty environment variable counts as not given. */
  private find(key: string, environmentKeys: readonly string[]): { source: string; value: unknown } {
    const [group, name] = key.includes('.') ? (key.split('.') as [Group, string]) : [undefined, key];
    const holder = (group === undefined ? this.options : this.options[group]) as
      Record<string, unknown> | undefined;
    const option = typeof holder === 'object' && holder !== null ? holder[name] : undefined;
    if (option !== undefined) return { source: key, value: option };
    for (const source of environmentKeys) {
      const value = this.readConfiguration(source);
      if (value !== undefined && value !== '') return { source, value };
    }
    return { source: key, value: undefined };
  }

  private refuseUnknownKeys(prefix: string, options: unknown, known: readonly string[]): void {
    if (typeof options !== 'object' || options === null) {
      this.problems.push(
        `${prefix === '' ? 'options' : prefix.slice(0, -1)}: ${show(options)} is not an object.`,
      );
      return;
    }
    for (const key of Object.keys(options)) {
      if (!known.includes(key))
        this.problems.push(`${prefix}${key}: unknown option. Known ones are ${known.join(', ')}.`);
    }
  }
}

import { describe, expect, it } from '@jest/globals';
import {
  InvalidStateManagerModeError,
  InvalidStateOptionsError,
  type ResolvedStateOptions,
  type StateModuleOptions,
} from 'nestjs-state';
import { resolveStateOptions } from '../../lib/state.options.resolve.js';

type Environment = Record<string, unknown>;

const resolve = (options: unknown = {}, environment: Environment = {}): ResolvedStateOptions =>
  resolveStateOptions(options as StateModuleOptions, (key) => environment[key]);

function problemsOf(options: unknown, environment: Environment = {}): readonly string[] {
  try {
    resolve(options, environment);
  } catch (error) {
    expect(error).toBeInstanceOf(InvalidStateOptionsError);
    return (error as InvalidStateOptionsError).problems;
  }
  return [];
}

const within = (path: string, value: unknown): object =>
  path.split('.').reduceRight<unknown>((inner, key) => ({ [key]: inner }), value) as object;
const at = (path: string, object: unknown): unknown =>
  path.split('.').reduce<unknown>((inner, key) => (inner as Record<string, unknown>)[key], object);

interface OptionCase {
  key: string;
  resolved: string;
  environmentKey: string;
  otherwise: unknown;
  option: [given: unknown, taken: unknown];
  environment: [given: unknown, taken: unknown];
  bad: unknown[];
}

const BAD_TIMES = ['soon', -1, Number.NaN, Number.POSITIVE_INFINITY, true, [], '-5s'];

const duration = (
  key: string,
  environmentKey: string,
  otherwise: number,
  range: 'positive' | 'zero allowed' = 'positive',
): OptionCase => ({
  key,
  resolved: `${key}Ms`,
  environmentKey,
  otherwise,
  option: ['2s', 2_000],
  environment: ['3s', 3_000],
  bad: range === 'positive' ? [...BAD_TIMES, 0, '0s'] : BAD_TIMES,
});

const CASES: OptionCase[] = [
  duration('expiration', 'STATE_TOKEN_EXPIRATION', 3_600_000),
  { ...duration('lockExpiration', 'STATE_LOCK_EXPIRATION', 10_000) },
  {
    ...duration('lockWarningThreshold', 'STATE_LOCK_WARNING_THRESHOLD', 1_000),
    bad: [...BAD_TIMES, 0, '10s', '1h'],
  },
  duration('maxHold', 'STATE_LOCK_MAX_HOLD', 60_000),
  duration('acquireTimeout', 'STATE_LOCK_ACQUIRE_TIMEOUT', 30_000, 'zero allowed'),
  duration('drainTimeout', 'STATE_DRAIN_TIMEOUT', 10_000, 'zero allowed'),
  duration('redis.leaseHold', 'STATE_REDIS_LEASE_HOLD', 0, 'zero allowed'),
  duration('redis.commandTimeout', 'STATE_REDIS_COMMAND_TIMEOUT', 2_000),
  {
    key: 'maxWaiters',
    resolved: 'maxWaiters',
    environmentKey: 'STATE_LOCK_MAX_WAITERS',
    otherwise: 1_000,
    option: [0, 0],
    environment: ['25', 25],
    bad: [-1, 1.5, 'many', '1e3', true, {}],
  },
  {
    key: 'telemetry',
    resolved: 'telemetry',
    environmentKey: 'STATE_TELEMETRY',
    otherwise: true,
    option: [false, false],
    environment: ['false', false],
    bad: ['no', 0, 1, null, {}],
  },
  {
    key: 'memory.maxStates',
    resolved: 'memory.maxStates',
    environmentKey: 'STATE_MEMORY_MAX_STATES',
    otherwise: 1_000_000,
    option: [5, 5],
    environment: ['25', 25],
    bad: [0, -1, 1.5, 'many', Number.NaN],
  },
  {
    key: 'mode',
    resolved: 'mode',
    environmentKey: 'STATE_MANAGER_MODE',
    otherwise: 'memory',
    option: ['disk', 'disk'],
    environment: ['redis', 'redis'],
    bad: ['REDIS', 'mem', 5, null, {}, ' memory'],
  },
  {
    key: 'redis.keyPrefix',
    resolved: 'redis.keyPrefix',
    environmentKey: 'STATE_REDIS_KEY_PREFIX',
    otherwise: 'state:',
    option: ['app:', 'app:'],
    environment: ['env:', 'env:'],
    bad: ['', 5, {}],
  },
  {
    key: 'redis.url',
    resolved: 'redis.url',
    environmentKey: 'STATE_REDIS_URL',
    otherwise: undefined,
    option: ['redis://a:1', 'redis://a:1'],
    environment: ['rediss://b:2', 'rediss://b:2'],
    bad: ['http://a', 'localhost', 'redis://a:port', 5, {}],
  },
  {
    key: 'disk.path',
    resolved: 'disk.path',
    environmentKey: 'STATE_DISK_PATH',
    otherwise: '.state',
    option: ['/data', '/data'],
    environment: ['/env', '/env'],
    bad: ['', 5, {}],
  },
  {
    key: 'disk.flushInterval',
    resolved: 'disk.flushIntervalMs',
    environmentKey: 'STATE_DISK_FLUSH_INTERVAL',
    otherwise: 0,
    option: ['1s', 1_000],
    environment: ['250ms', 250],
    bad: [-1, 'soon', {}],
  },
  {
    key: 'token.cookie',
    resolved: 'token.cookie',
    environmentKey: 'STATE_TOKEN_COOKIE',
    otherwise: 'state_token',
    option: ['sid', 'sid'],
    environment: ['envsid', 'envsid'],
    bad: ['', 'a b', 'a;b', 'a=b', 5],
  },
  {
    key: 'token.header',
    resolved: 'token.header',
    environmentKey: 'STATE_TOKEN_HEADER',
    otherwise: 'x-state-token',
    option: ['X-Session', 'x-session'],
    environment: ['X-Env', 'x-env'],
    bad: ['', 'a b', 'a:b', 5],
  },
  {
    key: 'token.onMissing',
    resolved: 'token.onMissing',
    environmentKey: 'STATE_TOKEN_ON_MISSING',
    otherwise: 'issue',
    option: ['reject', 'reject'],
    environment: ['reject', 'reject'],
    bad: ['refuse', '', 5, true],
  },
  {
    key: 'token.secret',
    resolved: 'token.secrets',
    environmentKey: 'STATE_TOKEN_SECRET',
    otherwise: [],
    option: ['option-secret-0001', ['option-secret-0001']],
    environment: ['env-secret-000001,env-secret-000002', ['env-secret-000001', 'env-secret-000002']],
    bad: ['short', '', ['long-enough-secret', 'short'], [], 5, 'long-enough-secret,'],
  },
  {
    key: 'token.sameSite',
    resolved: 'token.sameSite',
    environmentKey: 'STATE_TOKEN_SAME_SITE',
    otherwise: 'lax',
    option: ['strict', 'strict'],
    environment: ['strict', 'strict'],
    bad: ['Lax', 'loose', '', 5, true],
  },
  {
    key: 'token.secure',
    resolved: 'token.secure',
    environmentKey: 'STATE_TOKEN_SECURE',
    otherwise: 'auto',
    option: [false, false],
    environment: ['true', true],
    bad: ['yes', '', 1, null],
  },
  {
    key: 'token.path',
    resolved: 'token.path',
    environmentKey: 'STATE_TOKEN_PATH',
    otherwise: '/',
    option: ['/shop', '/shop'],
    environment: ['/env', '/env'],
    bad: ['', 'shop', '/a;b', '/a\nb', '/ä', 5],
  },
  {
    key: 'token.domain',
    resolved: 'token.domain',
    environmentKey: 'STATE_TOKEN_DOMAIN',
    otherwise: undefined,
    option: ['example.org', 'example.org'],
    environment: ['.example.org', '.example.org'],
    bad: ['', 'a b', 'a;b', 'https://a', '-a.org', 'a.org.', 5],
  },
];

const resolver = () => 'ident';

describe('resolveStateOptions', () => {
  it.each(CASES)('$key: the option beats the environment, which beats the default', (each) => {
    const { key, resolved, environmentKey, otherwise } = each;
    const environment = { [environmentKey]: each.environment[0] };

    expect(at(resolved, resolve())).toStrictEqual(otherwise);
    expect(at(resolved, resolve({}, environment))).toStrictEqual(each.environment[1]);
    expect(at(resolved, resolve(within(key, each.option[0]), environment))).toStrictEqual(each.option[1]);
    expect(at(resolved, resolve(within(key, undefined), environment))).toStrictEqual(each.environment[1]);
    expect(at(resolved, resolve({}, { [environmentKey]: '' }))).toStrictEqual(otherwise);
  });

  it.each(CASES)(
    '$key: each bad value is refused, with the key it came from',
    ({ key, environmentKey, bad }) => {
      for (const value of bad) {
        const problems = problemsOf(within(key, value));
        expect(problems).toHaveLength(1);
        expect(problems[0]?.startsWith(key)).toBe(true);
        if (typeof value === 'string' && value !== '' && key !== 'lockWarningThreshold') {
          const [problem] = problemsOf({}, { [environmentKey]: value });
          expect(problem?.startsWith(environmentKey)).toBe(true);
          expect(problem).toMatch(/ is not /);
        }
      }
    },
  );

  it('a warning threshold has to be below the life of a lock', () => {
    expect(problemsOf({ lockWarningThreshold: '2s', lockExpiration: '2s' })).toStrictEqual([
      'lockWarningThreshold: 2000 ms must be below lockExpiration (2000 ms).',
    ]);
    expect(problemsOf({ lockExpiration: '500ms' })).toHaveLength(1);
    expect(problemsOf({ lockExpiration: '500ms', lockWarningThreshold: 499 })).toStrictEqual([]);
  });

  it('a cookie that browsers would drop is refused', () => {
    expect(problemsOf({ token: { sameSite: 'none', secure: true } })).toStrictEqual([]);
    for (const secure of [false, 'auto', undefined]) {
      expect(problemsOf({ token: { sameSite: 'none', secure } })).toStrictEqual([
        "token.sameSite: 'none' needs `token.secure: true`, or browsers drop the cookie.",
      ]);
    }
    for (const cookie of ['__Host-sid', '__host-sid', '__Secure-sid', '__SECURE-sid']) {
      expect(problemsOf({ token: { cookie } })).toHaveLength(1);
      expect(problemsOf({ token: { cookie, secure: true } })).toStrictEqual([]);
    }
    const token = { secure: true, path: '/shop', domain: 'example.org' };
    expect(problemsOf({ token: { ...token, cookie: '__Secure-sid' } })).toStrictEqual([]);
    const problems = problemsOf({ token: { ...token, cookie: '__Host-sid' } });
    expect(problems).toHaveLength(2);
    for (const [index, rule] of ['token.path', 'token.domain'].entries())
      expect(problems[index]).toMatch(new RegExp(`^token\\.cookie: __Host-sid .*${rule}`));
    expect(problemsOf({}, { STATE_TOKEN_COOKIE: '__Host-sid', STATE_TOKEN_SECURE: 'true' })).toStrictEqual(
      [],
    );
  });

  it('a mode that is unknown is an error of its own, and lists the three', () => {
    expect(() => resolve({ mode: 'cluster' })).toThrow(InvalidStateManagerModeError);
    expect(() => resolve({ mode: 'cluster' })).toThrow(/"cluster".*memory, redis, disk/);
    expect(() => resolve({}, { STATE_MANAGER_MODE: 'cluster' })).toThrow(
      /STATE_MANAGER_MODE.*memory, redis, disk/,
    );
  });

  it.each<[string, unknown, Environment, string]>([
    ['a redis URL selects redis', { redis: { url: 'redis://a' } }, {}, 'redis'],
    ['a redis client selects redis', { redis: { client: {} } }, {}, 'redis'],
    ['STATE_REDIS_URL selects redis', {}, { STATE_REDIS_URL: 'redis://a' }, 'redis'],
    ['REDIS_URL selects redis', {}, { REDIS_URL: 'redis://a' }, 'redis'],
    ['an explicit mode wins over a URL', { mode: 'memory', redis: { url: 'redis://a' } }, {}, 'memory'],
    [
      'an explicit mode wins over REDIS_URL, even an odd one',
      { mode: 'memory' },
      { REDIS_URL: 'odd' },
      'memory',
    ],
    [
      'a mode of the environment wins over REDIS_URL',
      {},
      { STATE_MANAGER_MODE: 'disk', REDIS_URL: 'redis://a' },
      'disk',
    ],
    ['nothing at all means memory', undefined, {}, 'memory'],
  ])('%s', (_, options, environment, mode) => {
    expect(resolve(options, environment).mode).toBe(mode);
  });

  it('STATE_REDIS_URL wins over REDIS_URL', () => {
    const environment = { STATE_REDIS_URL: 'redis://own', REDIS_URL: 'redis://shared' };

    expect(resolve({}, environment).redis.url).toBe('redis://own');
    expect(problemsOf({}, { REDIS_URL: 'amqp://shared' })[0]).toMatch(/^REDIS_URL/);
  });

  it('redis.client and token.resolver come from the options alone, and are checked', () => {
    const client = {};
    class Resolver {
      resolve() {
        return 'ident';
      }
    }
    class NoResolver {}

    expect(resolve({ redis: { client } }).redis.client).toBe(client);
    expect(resolve({ token: { resolver } }).token.resolver).toBe(resolver);
    expect(resolve({ token: { resolver: Resolver } }).token.resolver).toBe(Resolver);
    expect(problemsOf({ redis: { client: 'redis' } })[0]).toMatch(/^redis\.client/);
    for (const bad of [NoResolver, {}, 'text']) {
      expect(problemsOf({ token: { resolver: bad } })[0]).toMatch(/^token\.resolver/);
    }
  });

  it('reports all problems together', () => {
    const problems = problemsOf(
      { expiration: 'soon', maxWaiters: -1, redis: { url: 'x', typo: 1 }, token: { cookie: 'a b' }, typo: 1 },
      { STATE_LOCK_MAX_HOLD: 'never' },
    );

    expect(problems.map((problem) => problem.split(':')[0]).sort()).toStrictEqual([
      'STATE_LOCK_MAX_HOLD',
      'expiration',
      'maxWaiters',
      'redis.typo',
      'redis.url',
      'token.cookie',
      'typo',
    ]);
    expect(problemsOf({ mode: 'x', expiration: 'soon' })).toHaveLength(2);
  });

  it.each(['', 'memory.', 'redis.', 'disk.', 'token.'])(
    'an unknown key %stypo is refused, with the known ones',
    (group) => {
      const [problem] = problemsOf(within(`${group}typo`, undefined));

      expect(problem).toMatch(/typo: unknown option\. Known ones are /);
      expect(problem?.startsWith(`${group}typo`)).toBe(true);
    },
  );

  it.each(['memory', 'redis', 'disk', 'token'])('%s has to be an object', (group) => {
    for (const value of [null, 5, 'text']) {
      expect(problemsOf({ [group]: value })[0]).toMatch(new RegExp(`^${group}: .* is not an object`));
    }
  });

  it('options that are no object are refused', () => {
    for (const options of [5, 'memory', true]) expect(problemsOf(options).length).toBeGreaterThan(0);
  });

  it.each([
    'amqp://user:hunter2@host',
    'redis://user:hunter2@host:port',
    'redis://:hunt/hunter2@host',
    'redis://user:hunt@hunter2@host:port',
    'user:hunter2@host:6379',
    'REDIS//user:hunter2@host',
  ])('a password in a URL that is refused is not printed: %s', (url) => {
    for (const problems of [problemsOf({ redis: { url } }), problemsOf({}, { REDIS_URL: url })]) {
      expect(problems).toHaveLength(1);
      expect(problems[0]).not.toContain('hunt');
      expect(problems[0]).toContain('host');
    }
  });

  it('blanks between the secrets of a list, and a line end after them, belong to none of them', () => {
    const { token } = resolveStateOptions({}, (key) =>
      key === 'STATE_TOKEN_SECRET' ? 'env-secret-000001, env-secret-000002\n' : undefined,
    );
    expect(token.secrets).toEqual(['env-secret-000001', 'env-secret-000002']);
  });

  it('a secret that is refused is not printed, in whatever form it comes', () => {
    for (const secret of ['hunter2', ['hunter2'], { hunter2: 'hunter2' }, 'long-enough-hunter2,hunter2']) {
      const problems = [
        ...problemsOf({ token: { secret } }),
        ...problemsOf({}, { STATE_TOKEN_SECRET: secret }),
      ];
      expect(problems).toHaveLength(2);
      expect(problems.join()).not.toContain('hunter2');
    }
  });
});

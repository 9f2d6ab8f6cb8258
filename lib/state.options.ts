import type { ExecutionContext, Type } from '@nestjs/common';
import type { Duration } from './internal/duration.js';
import type { StateTokenResolver } from './injection/state-token.resolver.js';
import type { StateManagerMode } from './managers/state.manager.js';

/** What names the ident of a request: an injectable class, or a function of the execution context. */
export type StateTokenResolverOption =
  Type<Pick<StateTokenResolver, 'resolve'>> | ((context: ExecutionContext) => string | Promise<string>);

/** What becomes of an HTTP request without a token: it is issued one in a cookie, or refused with 401. */
export type OnMissingToken = 'issue' | 'reject';

/** When a browser sends the cookie along with requests that other sites cause. */
export type TokenSameSite = 'lax' | 'strict' | 'none';

/** Settings of the memory manager. */
export interface MemoryStateOptions {
  /**
   * The most states this process keeps. Beyond it the longest idle unlocked ident is evicted, with an event and a
   * warning: a bound on memory, not a cache size to tune. Environment: `STATE_MEMORY_MAX_STATES`.
   *
   * @default 1000000
   */
  maxStates?: number;
}

/** Settings of the redis manager. */
export interface RedisStateOptions {
  /**
   * Where the server is; with credentials and database, `rediss://` for TLS. Configured without a `mode`, it selects
   * redis. Environment: `STATE_REDIS_URL`, then `REDIS_URL`.
   */
  url?: string;
  /**
   * A `Redis` or `Cluster` of ioredis, for Sentinel, a cluster, or a connection you have anyway. Wins over `url`. It is
   * never closed by the library; a second one, for messages, is duplicated from it.
   */
  client?: object;
  /** What every key and channel starts with: one for each application on a server. Environment: `STATE_REDIS_KEY_PREFIX`. @default 'state:' */
  keyPrefix?: string;
  /**
   * How long lock and states stay in this process between turns; 0 is off. Turns that follow each other here then take no
   * round trip, and are acknowledged before they are stored: a crash loses at most this much of them, and other processes
   * read what was before. Environment: `STATE_REDIS_LEASE_HOLD`.
   *
   * @default 0
   */
  leaseHold?: Duration;
  /**
   * Bound of every call to the server, after which it counts as away; start-up may take five times as long. Environment:
   * `STATE_REDIS_COMMAND_TIMEOUT`.
   *
   * @default '2s'
   */
  commandTimeout?: Duration;
}

/** Settings of the disk manager. */
export interface DiskStateOptions {
  /** The folder of the store, for one process at a time. Environment: `STATE_DISK_PATH`. @default '.state' */
  path?: string;
  /**
   * How long commits may wait to be written together; 0 acknowledges a turn when it is on the disk. Turns are then
   * acknowledged before they are written: a crash loses at most this much of them. Environment:
   * `STATE_DISK_FLUSH_INTERVAL`.
   *
   * @default 0
   */
  flushInterval?: Duration;
}

/** Where the ident of a client comes from. */
export interface StateTokenOptions {
  /** The cookie that carries it. Environment: `STATE_TOKEN_COOKIE`. @default 'state_token' */
  cookie?: string;
  /** The header that carries it, before the cookie. Environment: `STATE_TOKEN_HEADER`. @default 'x-state-token' */
  header?: string;
  /**
   * `issue` sets a new random one as an HttpOnly cookie; `reject` answers 401. Gateways and microservices cannot set cookies
   * and always refuse. Environment: `STATE_TOKEN_ON_MISSING`.
   *
   * @default 'issue'
   */
  onMissing?: OnMissingToken;
  /**
   * Signs the idents of clients; an unsigned or forged one is refused with 401, but for a cookie where `onMissing` is
   * `issue`, which is replaced by a new one. At least 16 characters. With several, the first one signs and all are accepted;
   * a cookie that another one has signed is set again, signed by the first. Environment: `STATE_TOKEN_SECRET`, several
   * separated by commas.
   */
  secret?: string | readonly string[];
  /**
   * The SameSite attribute of the cookie. `none` lets every site cause requests with it, and needs `secure: true`.
   * Environment: `STATE_TOKEN_SAME_SITE`.
   *
   * @default 'lax'
   */
  sameSite?: TokenSameSite;
  /**
   * Whether the cookie is sent over https alone. `auto`: where the request came over https, as the framework says; behind a
   * proxy that is a matter of its `trust proxy` (Express) or `trustProxy` (Fastify). Environment: `STATE_TOKEN_SECURE`.
   *
   * @default 'auto'
   */
  secure?: boolean | 'auto';
  /** The Path attribute of the cookie. Environment: `STATE_TOKEN_PATH`. @default '/' */
  path?: string;
  /** The Domain attribute of the cookie. Without one no other host gets it. Environment: `STATE_TOKEN_DOMAIN`. */
  domain?: string;
  /** Replaces all of the above. @default the {@link StateTokenResolver} */
  resolver?: StateTokenResolverOption;
}

/**
 * Options of `StateModule.forRoot()`. Each wins over its environment key, which wins over the default.
 */
export interface StateModuleOptions {
  /**
   * Where states live. An explicit mode always wins over a configured Redis URL; there is never a silent fallback.
   * Environment: `STATE_MANAGER_MODE`.
   *
   * @default 'redis' when a Redis URL or client is configured, else 'memory'
   */
  mode?: StateManagerMode;
  /** Idle time after which all states of an ident are gone. Every use restarts it. Environment: `STATE_TOKEN_EXPIRATION`. @default '1h' */
  expiration?: Duration;
  /** How long a lock outlives a process that died. Environment: `STATE_LOCK_EXPIRATION`. @default '10s' */
  lockExpiration?: Duration;
  /** A turn held longer is warned of, once a minute for each handler. Below `lockExpiration`. Environment: `STATE_LOCK_WARNING_THRESHOLD`. @default '1s' */
  lockWarningThreshold?: Duration;
  /** The longest one turn may hold its lock; then it is lost and cannot commit. Environment: `STATE_LOCK_MAX_HOLD`. @default '60s' */
  maxHold?: Duration;
  /** The longest wait for a lock; 0 tries once. Environment: `STATE_LOCK_ACQUIRE_TIMEOUT`. @default '30s' */
  acquireTimeout?: Duration;
  /** The most callers queued for one ident. Environment: `STATE_LOCK_MAX_WAITERS`. @default 1000 */
  maxWaiters?: number;
  /** How long shutdown waits for open turns. Environment: `STATE_DRAIN_TIMEOUT`. @default '10s' */
  drainTimeout?: Duration;
  /**
   * Spans and metrics of turns, locks and states, through `@opentelemetry/api`: where the application has that package and
   * has registered an SDK before it starts. Costs nothing where it has not. Environment: `STATE_TELEMETRY`.
   *
   * @default true
   */
  telemetry?: boolean;
  memory?: MemoryStateOptions;
  redis?: RedisStateOptions;
  disk?: DiskStateOptions;
  token?: StateTokenOptions;
}

/** The options in force: complete, checked, durations in milliseconds. */
export interface ResolvedStateOptions {
  readonly mode: StateManagerMode;
  readonly expirationMs: number;
  readonly lockExpirationMs: number;
  readonly lockWarningThresholdMs: number;
  readonly maxHoldMs: number;
  readonly acquireTimeoutMs: number;
  readonly maxWaiters: number;
  readonly drainTimeoutMs: number;
  readonly telemetry: boolean;
  readonly memory: { readonly maxStates: number };
  readonly redis: {
    readonly url: string | undefined;
    readonly client: object | undefined;
    readonly keyPrefix: string;
    readonly leaseHoldMs: number;
    readonly commandTimeoutMs: number;
  };
  readonly disk: { readonly path: string; readonly flushIntervalMs: number };
  readonly token: {
    readonly cookie: string;
    readonly header: string;
    readonly onMissing: OnMissingToken;
    readonly secrets: readonly string[];
    readonly sameSite: TokenSameSite;
    readonly secure: boolean | 'auto';
    readonly path: string;
    readonly domain: string | undefined;
    readonly resolver: StateTokenResolverOption | undefined;
  };
}

import { setTimeout as delay } from 'node:timers/promises';
import { Logger } from '@nestjs/common';
import type { Clock } from '../../internal/clock.js';
import { Deferred } from '../../internal/deferred.js';
import { InvalidStateOptionsError, StateStoreUnavailableError } from '../../state.errors.js';
import type { RedisClient, RedisClusterClient, RedisPackage, RedisServerClient } from './redis-client.js';

export interface RedisClientsOptions {
  readonly url: string | undefined;
  readonly client: object | undefined;
  readonly commandTimeoutMs: number;
  readonly clock: Clock;
}

export interface RedisClientsEvents {
  /** The server can be asked, for the first time or again. */
  onReady(): void;
  /** A connection was lost; what was under way is sent again over the next one. */
  onLost(): void;
}

/** Where ioredis looks when nothing else is said. */
const DEFAULT_URL = 'redis://127.0.0.1:6379';
const LONGEST_RECONNECT_MS = 1_000;
/** As many times the bound of one call is what the start may take. */
const START_CALLS = 5;
/** How long a connection may take to say goodbye, in milliseconds. */
const DISCONNECT_MS = 100;

/**
 * The two clients of a process, one for scripts and one that listens: opened from a URL, or taken from the application
 * and never closed. Guarantee: no `error` event is left without a listener, and an outage is said once.
 */
export class RedisClients {
  /** What a connection complained of last. */
  lastError: Error | undefined;
  private readonly logger = new Logger('StateManager');
  private client: RedisClient | undefined;
  private subscriber: RedisClient | undefined;
  private wasReady = false;
  private isAway = false;
  private isClosing = false;
  private readonly undo: (() => void)[] = [];

  constructor(
    private readonly options: RedisClientsOptions,
    private readonly events: RedisClientsEvents,
  ) {}

  get main(): RedisClient {
    if (this.client === undefined) throw new StateStoreUnavailableError('Redis is not connected yet.');
    return this.client;
  }

  /** Connecting takes several calls, at a time when everything starts. */
  private get startTimeoutMs(): number {
    return START_CALLS * this.options.commandTimeoutMs;
  }

  get isReady(): boolean {
    return this.client?.status === 'ready';
  }

  get isCluster(): boolean {
    return this.client?.isCluster === true;
  }

  /** What the client puts before every key by itself. */
  get keyPrefix(): string {
    return this.client?.options.keyPrefix ?? '';
  }

  /** The servers that hold keys. */
  masters(): RedisClient[] {
    return this.isCluster ? (this.main as RedisClusterClient).nodes('master') : [this.main];
  }

  /**
   * Connects both and subscribes to `channel`.
   *
   * @throws {StateStoreUnavailableError} when that takes longer than five times `commandTimeout`, or is refused.
   * @throws {InvalidStateOptionsError} when the client is none, or the package ioredis is missing.
   */
  async open(channel: string, onMessage: (message: Buffer) => void): Promise<void> {
    this.client = this.options.client === undefined ? await this.create() : this.adopt(this.options.client);
    this.wasReady = this.isReady;
    this.listen(this.client);
    const subscriber = this.duplicate(this.client);
    this.subscriber = subscriber;
    this.on(subscriber, 'error', (error: Error) => (this.lastError = error));
    this.on(subscriber, 'messageBuffer', (_channel: Buffer, message: Buffer) => onMessage(message));
    try {
      await this.inTime(this.start(this.client, subscriber, channel));
    } catch (error) {
      await this.close();
      throw this.startFailure(error);
    }
  }

  /** Gives up the connection of our own and opens another one. A client of the application is left to itself. */
  reconnect(): void {
    if (this.options.client === undefined) this.client?.disconnect(true);
  }

  /** Closes what was opened here, and stops listening to the rest. */
  async close(): Promise<void> {
    this.isClosing = true;
    const own = this.options.client === undefined ? [this.client, this.subscriber] : [this.subscriber];
    await Promise.all(own.map(disconnect));
    for (const undo of this.undo.splice(0)) undo();
    // A connection attempt that is under way may still complain, with nobody left to hear it.
    for (const client of own) client?.on('error', () => undefined);
  }

  private async start(client: RedisClient, subscriber: RedisClient, channel: string): Promise<void> {
    await Promise.all([connect(client), connect(subscriber)]);
    await subscriber.subscribe(channel);
  }

  private async create(): Promise<RedisClient> {
    const { url, commandTimeoutMs } = this.options;
    const { Redis: Client } = await importClient();
    const options = {
      lazyConnect: true,
      disconnectTimeout: DISCONNECT_MS,
      // How long a call may take is counted elsewhere, and what is sent twice is told apart there.
      maxRetriesPerRequest: null,
      connectTimeout: Math.max(commandTimeoutMs, LONGEST_RECONNECT_MS),
      retryStrategy: (times: number) => Math.min(20 * 2 ** Math.min(times, 8), LONGEST_RECONNECT_MS),
      // After a failover the old primary is a replica: ask again where the primary is.
      reconnectOnError: (error: Error) => (error.message.startsWith('READONLY') ? 2 : false),
    };
    return new Client(url ?? DEFAULT_URL, options);
  }

  private adopt(client: object): RedisClient {
    const { evalshaBuffer, duplicate, status, options } = client as Partial<RedisServerClient>;
    if (typeof evalshaBuffer !== 'function' || typeof duplicate !== 'function' || typeof status !== 'string')
      throw new InvalidStateOptionsError(['redis.client: it is no Redis or Cluster of ioredis.']);
    if (options?.stringNumbers === true || options?.redisOptions?.stringNumbers === true)
      throw new InvalidStateOptionsError([
        'redis.client: `stringNumbers` must be off, answers are told by them.',
      ]);
    return client as RedisClient;
  }

  private duplicate(client: RedisClient): RedisClient {
    // The prefix of a client would be put before the channel too, and scripts publish without it. It listens again after a
    // reconnection, also where the client of the application, which may listen to nothing, would not.
    const options = {
      keyPrefix: '',
      lazyConnect: true,
      autoResubscribe: true,
      disconnectTimeout: DISCONNECT_MS,
    };
    return client.isCluster
      ? (client as RedisClusterClient).duplicate([], options)
      : (client as RedisServerClient).duplicate({ ...options, maxRetriesPerRequest: null });
  }

  private listen(client: RedisClient): void {
    this.on(client, 'error', (error: Error) => {
      this.lastError = error;
      this.lost();
    });
    this.on(client, 'ready', () => {
      if (this.isAway) this.logger.log('Redis is back.');
      this.isAway = false;
      this.wasReady = true;
      this.events.onReady();
    });
    this.on(client, 'close', () => this.lost());
    if (client.isCluster) this.listenToNodes(client as RedisClusterClient);
  }

  private listenToNodes(cluster: RedisClusterClient): void {
    const watch = (node: RedisClient): void => this.on(node, 'close', () => this.events.onLost());
    for (const node of cluster.nodes('all')) watch(node);
    this.on(cluster, '+node', watch);
  }

  private lost(): void {
    this.events.onLost();
    // While it starts the error that the start ends in says it all.
    if (this.isAway || this.isClosing || !this.wasReady) return;
    this.isAway = true;
    this.logger.warn(
      `The connection to Redis is lost${this.lastError === undefined ? '' : `: ${this.lastError.message}`}. Turns fail until it is back.`,
    );
  }

  private on(client: RedisClient, event: string, listener: (...args: never[]) => void): void {
    // What a listener gets depends on the event.
    const untyped = listener as (...args: unknown[]) => void;
    client.on(event, untyped);
    this.undo.push(() => client.removeListener(event, untyped));
  }

  private inTime<T>(work: Promise<T>): Promise<T> {
    const { clock } = this.options;
    return new Promise((resolve, reject) => {
      const timer = clock.startTimer(() => reject(this.lastError), this.startTimeoutMs);
      work.then(resolve, reject).finally(() => timer.cancel());
    });
  }

  private startFailure(cause: unknown): StateStoreUnavailableError {
    const { options } = this;
    const where =
      options.client === undefined
        ? `at ${new URL(options.url ?? DEFAULT_URL).host} (\`redis.url\`${options.url === undefined ? ' is not set' : ''})`
        : 'through `redis.client`';
    const { message } = (cause ?? {}) as { message?: unknown };
    const why = typeof message === 'string' ? `: ${message}` : '';
    return new StateStoreUnavailableError(
      `Redis ${where} could not be used within ${this.startTimeoutMs} ms (five times \`redis.commandTimeout\`)${why}. ` +
        'Is it running, and may this user connect and subscribe?',
      { cause },
    );
  }
}

/** Resolves when `client` is ready; goes on trying when it is not at once. */
async function connect(client: RedisClient): Promise<void> {
  if (client.status === 'ready') return;
  const ready = new Deferred();
  const onReady = (): void => ready.resolve();
  const onEnd = (): void => ready.reject(new Error('the client has given up'));
  client.once('ready', onReady);
  client.once('end', onEnd);
  if (client.status === 'wait') client.connect().catch(() => undefined);
  try {
    await ready.promise;
  } finally {
    client.removeListener('ready', onReady);
    client.removeListener('end', onEnd);
  }
}

async function disconnect(client: RedisClient | undefined): Promise<void> {
  if (client === undefined) return;
  const ended = new Deferred();
  client.once('end', () => ended.resolve());
  // Where there is no connection at this moment ioredis says nothing of its end.
  const hasConnection = ['connecting', 'connect', 'ready', 'disconnecting'].includes(client.status);
  client.disconnect();
  if (hasConnection) await Promise.race([ended.promise, delay(DISCONNECT_MS * 2)]);
}

async function importClient(): Promise<RedisPackage> {
  try {
    return (await import('ioredis')) as unknown as RedisPackage;
  } catch (cause) {
    const problem = 'mode: the redis manager needs the package ioredis. Install it: npm install ioredis.';
    throw Object.assign(new InvalidStateOptionsError([problem]), { cause });
  }
}

import { afterAll, afterEach, beforeAll, beforeEach } from '@jest/globals';
import type { Redis } from 'ioredis';
import { LockExpiredError, type StateModuleOptions } from 'nestjs-state';
import type { RedisStateManager } from '../../lib/managers/redis/redis-state.manager.js';
import { RecordedLogs } from './manager-logs.js';
import { openRedisManager } from './manager-redis.js';
import { RedisProxy, type RedisProxyOptions } from './redis-proxy.js';
import { RedisServer, type RedisServerOptions } from './redis-server.js';
import { ManagerWorker } from './manager-worker.js';

/** The Redis of a test file, and all that its tests start on it: whatever they leave open is ended after each of them. */
export class TestRedis {
  server!: RedisServer;
  /** What the library has logged since the test began. */
  logs!: RecordedLogs;
  private ownClient: Redis | undefined;
  private readonly managers: RedisStateManager[] = [];
  private readonly workers: ManagerWorker[] = [];
  private readonly proxies: RedisProxy[] = [];

  private constructor(private readonly defaults: StateModuleOptions) {}

  /** One server for all tests of the file, empty at the beginning of each. */
  static forFile(options: RedisServerOptions = {}): TestRedis {
    const store = new TestRedis({});
    beforeAll(() => store.start(options));
    store.recordLogs();
    afterEach(async () => {
      await store.closeAll();
      await store.server.flush();
    });
    afterAll(() => store.server[Symbol.asyncDispose]());
    return store;
  }

  /** A server for each test, for those that end theirs. What the tests open has `defaults`. */
  static forEachTest(defaults: StateModuleOptions = {}): TestRedis {
    const store = new TestRedis(defaults);
    beforeEach(() => store.start({}));
    store.recordLogs();
    afterEach(async () => {
      await store.closeAll();
      await store.server[Symbol.asyncDispose]();
    });
    return store;
  }

  /** A client of the server that no manager knows of. */
  get client(): Redis {
    return (this.ownClient ??= this.server.connect());
  }

  /** A manager on the server, as another process has it. */
  async open(options: StateModuleOptions = {}): Promise<RedisStateManager> {
    const manager = await openRedisManager(this.with(options));
    this.managers.push(manager);
    return manager;
  }

  /** A process with a manager on the server. */
  async startWorker(name: string, options: StateModuleOptions = {}): Promise<ManagerWorker> {
    const worker = await ManagerWorker.start(name, { mode: 'redis', ...this.with(options) });
    this.workers.push(worker);
    return worker;
  }

  /** A network between the server and whoever uses the URL of it. */
  async startProxy(options: RedisProxyOptions = {}): Promise<RedisProxy> {
    const proxy = await RedisProxy.start(this.server.port, options);
    this.proxies.push(proxy);
    return proxy;
  }

  /** Ends the managers that are open, all at once. */
  async closeManagers(): Promise<void> {
    await Promise.all(this.managers.splice(0).map((manager) => manager.onModuleDestroy()));
  }

  /** How many scripts the server has run. */
  async scripts(): Promise<number> {
    return (await this.server.commandCalls('evalsha')) + (await this.server.commandCalls('eval'));
  }

  /** The keys that say who has a lock, and who waits for one. */
  async lockKeys(): Promise<string[]> {
    return [...(await this.server.keys('*:lock')), ...(await this.server.keys('*:wait'))];
  }

  private with(options: StateModuleOptions): StateModuleOptions {
    const redis = { url: this.server.url, ...this.defaults.redis, ...options.redis };
    return { ...this.defaults, ...options, redis };
  }

  private async start(options: RedisServerOptions): Promise<void> {
    this.server = await RedisServer.start(options);
    this.ownClient = undefined;
  }

  private recordLogs(): void {
    beforeEach(() => {
      this.logs = RecordedLogs.start();
    });
  }

  private async closeAll(): Promise<void> {
    await Promise.all(this.workers.splice(0).map((worker) => worker[Symbol.asyncDispose]()));
    await this.closeManagers();
    await Promise.all(this.proxies.splice(0).map((proxy) => proxy[Symbol.asyncDispose]()));
  }
}

/** A machine that is busy may be too late for a lock: then nothing was seen, and it looks again. */
export async function retried<T>(look: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await look();
    } catch (error) {
      if (!(error instanceof LockExpiredError)) throw error;
    }
  }
}

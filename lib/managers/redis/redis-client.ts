/** An argument of a command. */
type Argument = string | number | Buffer;
type Listener = (...args: unknown[]) => void;

/** What is asked of how a client was made. */
export interface RedisClientOptions {
  readonly keyPrefix?: string | undefined;
  readonly stringNumbers?: boolean | undefined;
}

/** The connection, for writing several commands at once. */
export interface RedisStream {
  cork(): void;
  uncork(): void;
}

/**
 * As much of a `Redis` or `Cluster` of ioredis as is used. Told by its shape, so that an application without that package
 * compiles against this one.
 */
export interface RedisClient {
  /** `ready` when commands are sent at once. */
  readonly status: string;
  readonly isCluster?: boolean;
  /** The connection of the moment. A cluster has one for each node and none here. */
  readonly stream?: RedisStream | undefined;
  readonly options: RedisClientOptions & { readonly redisOptions?: RedisClientOptions | undefined };
  callBuffer(command: string, ...args: Argument[]): Promise<unknown>;
  // Not by `callBuffer`: with `enableAutoPipelining` that loses the name of the command.
  evalBuffer(script: string, keys: number, ...args: Argument[]): Promise<unknown>;
  evalshaBuffer(sha: string, keys: number, ...args: Argument[]): Promise<unknown>;
  scan(
    cursor: string,
    match: 'MATCH',
    pattern: string,
    limit: 'COUNT',
    count: number,
  ): Promise<[cursor: string, keys: string[]]>;
  subscribe(channel: string): Promise<unknown>;
  connect(): Promise<void>;
  disconnect(reconnect?: boolean): void;
  on(event: string, listener: Listener): unknown;
  once(event: string, listener: Listener): unknown;
  removeListener(event: string, listener: Listener): unknown;
}

/** A client of one server. */
export interface RedisServerClient extends RedisClient {
  duplicate(options: object): RedisServerClient;
}

/** A client of a cluster. */
export interface RedisClusterClient extends RedisClient {
  nodes(role: 'master' | 'all'): RedisServerClient[];
  duplicate(startupNodes: never[], options: object): RedisClusterClient;
}

/** What the package ioredis is needed for. */
export interface RedisPackage {
  readonly Redis: new (url: string, options: object) => RedisServerClient;
}

import { Redis, type RedisOptions } from 'ioredis';
import { DISCONNECT_TIMEOUT_MS, RedisServer, until } from './redis-server.js';

const NAME = 'main';
const FAILOVER_WITHIN_MS = 15_000;

/** A real master with one replica, watched by one sentinel that may fail it over on its own. */
export class RedisSentinelSetup implements AsyncDisposable {
  /** What the sentinel calls the master, whichever server that is. */
  readonly name = NAME;
  readonly sentinels: readonly { readonly host: string; readonly port: number }[];
  private readonly clients = new Set<Redis>();

  private constructor(
    /** The master at the start; a failover leaves it dead. */
    readonly master: RedisServer,
    /** The replica at the start; a failover makes it the master. */
    readonly replica: RedisServer,
    readonly sentinel: RedisServer,
  ) {
    this.sentinels = [{ host: sentinel.host, port: sentinel.port }];
  }

  /** Resolves once the replica follows the master and the sentinel has seen both do so. */
  static async start(): Promise<RedisSentinelSetup> {
    const servers: RedisServer[] = [];
    const start = async (args: string[], config: string[]) => {
      const server = await RedisServer.start({ args, config });
      servers.push(server);
      return server;
    };
    try {
      // Else the master waits 5 s for more replicas before it serves the first.
      const args = ['--repl-diskless-sync-delay', '0'];
      const master = await start(args, []);
      // Not an argument: the sentinel rewrites the file when it makes the replica a master.
      const replica = await start(args, [`replicaof ${master.host} ${master.port}`]);
      // The sentinel asks a master for its replicas when it starts, and only each 10 s from then on.
      await until('the replica is online', async () =>
        /^slave0:.*state=online/m.test(await master.info('replication')),
      );
      const sentinel = await start(
        ['--sentinel'],
        [
          `sentinel monitor ${NAME} ${master.host} ${master.port} 1`,
          `sentinel down-after-milliseconds ${NAME} 500`,
          `sentinel failover-timeout ${NAME} 2000`,
          'sentinel resolve-hostnames no',
        ],
      );
      const setup = new RedisSentinelSetup(master, replica, sentinel);
      await setup.whenWatched();
      return setup;
    } catch (error) {
      await Promise.all(servers.map((server) => server[Symbol.asyncDispose]()));
      throw error;
    }
  }

  /** A client of whoever is master, disconnected together with the setup; its `error` events go unheard. */
  connect(options: RedisOptions = {}): Redis {
    const client = new Redis({
      sentinels: [...this.sentinels],
      name: this.name,
      disconnectTimeout: DISCONNECT_TIMEOUT_MS,
      ...options,
    });
    client.on('error', () => undefined);
    client.once('end', () => this.clients.delete(client));
    this.clients.add(client);
    return client;
  }

  /** Kills the master and resolves once the replica has taken its place, which takes a few seconds. */
  async failover(): Promise<void> {
    await this.master.kill();
    const client = this.sentinel.connect();
    const replicaPort = String(this.replica.port);
    await until(
      'the sentinel names the replica as master',
      async () => {
        const address = await client.call('SENTINEL', 'GET-MASTER-ADDR-BY-NAME', this.name);
        return Array.isArray(address) && address[1] === replicaPort;
      },
      FAILOVER_WITHIN_MS,
    );
    client.disconnect();
    await until('the replica is a master', async () =>
      /^role:master/m.test(await this.replica.info('replication')),
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const client of this.clients) client.disconnect();
    // The sentinel first: it should not see the others die.
    for (const server of [this.sentinel, this.replica, this.master]) await server[Symbol.asyncDispose]();
  }

  private async whenWatched(): Promise<void> {
    const client = this.sentinel.connect();
    await until('the sentinel sees a master and its replica', async () => {
      const replicas = ((await client.call('SENTINEL', 'REPLICAS', this.name)) as string[][]).map(fields);
      const [replica] = replicas;
      return (
        (await this.sentinel.info('sentinel')).includes('status=ok') &&
        replicas.length === 1 &&
        replica.get('flags') === 'slave' &&
        replica.get('master-link-status') === 'ok' &&
        replica.get('port') === String(this.replica.port)
      );
    });
    client.disconnect();
  }
}

/** What a flat list of names and values says. */
function fields(flat: readonly string[]): Map<string, string> {
  return new Map(
    flat.flatMap((name, index) => (index % 2 === 0 ? [[name, flat[index + 1]] as [string, string]] : [])),
  );
}

import { Cluster, type ClusterOptions } from 'ioredis';
import { freePort } from './process.js';
import { DISCONNECT_TIMEOUT_MS, RedisServer, until } from './redis-server.js';

const SLOTS = 16_384;
const MASTERS = 3;
const ATTEMPTS = 3;

interface Member {
  readonly server: RedisServer;
  readonly busPort: number;
}

/** A real Redis Cluster of three masters and no replica on the loopback interface. */
export class RedisCluster implements AsyncDisposable {
  readonly nodes: readonly RedisServer[];
  readonly startupNodes: readonly { readonly host: string; readonly port: number }[];
  private readonly clients = new Set<Cluster>();

  private constructor(private readonly members: readonly Member[]) {
    this.nodes = members.map(({ server }) => server);
    this.startupNodes = this.nodes.map(({ host, port }) => ({ host, port }));
  }

  /** Resolves once every node says that the cluster is complete. Takes 2 s: no master is writable before. */
  static async start(): Promise<RedisCluster> {
    const members: Member[] = [];
    try {
      while (members.length < MASTERS) members.push(await startMember());
      const cluster = new RedisCluster(members);
      await cluster.join();
      return cluster;
    } catch (error) {
      await Promise.all(members.map(({ server }) => server[Symbol.asyncDispose]()));
      throw error;
    }
  }

  /** A client of the cluster that is disconnected together with it; its `error` events go unheard. */
  connect(options: ClusterOptions = {}): Cluster {
    const client = new Cluster([...this.startupNodes], {
      ...options,
      redisOptions: { disconnectTimeout: DISCONNECT_TIMEOUT_MS, ...options.redisOptions },
    });
    client.on('error', () => undefined);
    client.once('end', () => this.clients.delete(client));
    this.clients.add(client);
    return client;
  }

  async flush(): Promise<void> {
    await Promise.all(this.nodes.map((node) => node.flush()));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const client of this.clients) client.disconnect();
    await Promise.all(this.nodes.map((node) => node[Symbol.asyncDispose]()));
  }

  private async join(): Promise<void> {
    for (const [index, { server }] of this.members.entries()) {
      const client = server.connect();
      const first = Math.floor((index * SLOTS) / MASTERS);
      const end = Math.floor(((index + 1) * SLOTS) / MASTERS);
      await client.cluster('ADDSLOTSRANGE', first, end - 1);
      // Masters that start with the same epoch have to settle it among each other first.
      await client.cluster('SET-CONFIG-EPOCH', index + 1);
      // Each meets each: gossip alone takes seconds to get around.
      for (const other of this.members.slice(0, index)) {
        await client.call('CLUSTER', 'MEET', other.server.host, other.server.port, other.busPort);
      }
      client.disconnect();
    }
    await Promise.all(this.nodes.map(whenComplete));
  }
}

/** A node that listens on two free ports. The server retries only its own: the bus port is an argument to it. */
async function startMember(): Promise<Member> {
  for (let attempt = 1; ; attempt += 1) {
    const busPort = await freePort();
    try {
      const config = [
        'cluster-enabled yes',
        'cluster-config-file nodes.conf',
        `cluster-port ${busPort}`,
        'cluster-announce-ip 127.0.0.1',
      ];
      return { server: await RedisServer.start({ config }), busPort };
    } catch (error) {
      if (attempt === ATTEMPTS) throw error;
    }
  }
}

async function whenComplete(node: RedisServer): Promise<void> {
  const client = node.connect();
  const expected = ['cluster_state:ok', `cluster_known_nodes:${MASTERS}`, `cluster_slots_ok:${SLOTS}`];
  await until(`${node.url} says ${expected.join(', ')}`, async () => {
    const lines = ((await client.cluster('INFO')) as string).split('\r\n');
    return expected.every((line) => lines.includes(line));
  });
  client.disconnect();
}

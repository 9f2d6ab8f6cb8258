import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { copyFile, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { createConnection, createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { transform } from '@swc/core';
import type { Redis } from 'ioredis';
import { RedisCluster } from '../../support/redis-cluster.js';
import { RedisProxy } from '../../support/redis-proxy.js';
import { RedisSentinelSetup } from '../../support/redis-sentinel.js';
import { RedisServer, until } from '../../support/redis-server.js';

const MEGABYTE = 1024 * 1024;

/** Whether a process is there, also a paused one. */
function isThere(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

function isListening(port: number): Promise<boolean> {
  const socket = createConnection(port, '127.0.0.1');
  return once(socket, 'connect').then(
    () => !!socket.destroy(),
    () => false,
  );
}

/** Whether the promise is still open after a while. */
function isOpen(promise: Promise<unknown>, afterMs = 150): Promise<boolean> {
  return Promise.race([promise.then(() => false), sleep(afterMs, true)]);
}

describe('RedisServer', () => {
  let server: RedisServer;
  let client: Redis;

  beforeAll(async () => {
    server = await RedisServer.start();
    client = server.connect();
  });
  afterAll(() => server[Symbol.asyncDispose]());

  it('answers on its own port of the loopback interface, and keeps nothing on disk', async () => {
    expect(server.url).toBe(`redis://127.0.0.1:${server.port}`);
    expect(isThere(server.pid)).toBe(true);
    expect(await client.config('GET', 'bind')).toEqual(['bind', '127.0.0.1']);
    expect(await client.config('GET', 'save')).toEqual(['save', '']);
    expect(await client.config('GET', 'appendonly')).toEqual(['appendonly', 'no']);
  });

  it('many start at once, each on a port of its own', async () => {
    const servers = await Promise.all(Array.from({ length: 8 }, () => RedisServer.start()));
    try {
      const answers = await Promise.all(
        servers.map((each) => each.connect().config('GET', 'port') as Promise<string[]>),
      );
      expect(answers.map(([, port]) => Number(port))).toEqual(servers.map(({ port }) => port));
    } finally {
      await Promise.all(servers.map((each) => each[Symbol.asyncDispose]()));
    }
  });

  it('lists its keys in order, and flushes them', async () => {
    await client.mset('state:b', 1, 'state:a', 1, 'other', 1);

    expect(await server.keys('state:*')).toEqual(['state:a', 'state:b']);
    expect(await server.keys()).toEqual(['other', 'state:a', 'state:b']);
    await server.flush();
    expect(await server.keys()).toEqual([]);
  });

  it('counts the calls of a command, also those of scripts', async () => {
    expect(await server.commandCalls('incrby')).toBe(0);
    await client.eval('redis.call("INCRBY", KEYS[1], 2) return redis.call("INCRBY", KEYS[1], 2)', 1, 'n');
    await client.incrby('n', 2);

    expect(await server.commandCalls('EVAL')).toBe(1);
    expect(await server.commandCalls('incrby')).toBe(3);
    expect(await server.commandCalls('evalsha')).toBe(0);
  });

  it('answers nothing while it is paused', async () => {
    server.pause();
    const answer = client.ping();
    expect(await isOpen(answer)).toBe(true);
    server.resume();

    expect(await answer).toBe('PONG');
  });

  it('closes the connections of one kind', async () => {
    const subscriber = server.connect();
    await subscriber.subscribe('channel');
    let closed = 0;
    client.once('close', () => (closed += 1));
    const subscriberCloses = once(subscriber, 'close');
    expect(await server.killClients('pubsub')).toBe(1);
    await subscriberCloses;
    expect(await client.ping()).toBe('PONG');
    expect(closed).toBe(0);

    subscriber.disconnect();
    const clientCloses = once(client, 'close');
    expect(await server.killClients('normal')).toBe(1);
    await clientCloses;
    expect(await client.ping()).toBe('PONG');
  });

  it('lets its users do what they may', async () => {
    await using guarded = await RedisServer.start({
      users: ['user default off', 'user app on >pw ~state:* &state:* +@all -config'],
      args: ['--maxmemory', '10mb'],
    });
    const app = guarded.connect({ username: 'app', password: 'pw' });

    expect(await app.set('state:a', 1)).toBe('OK');
    await expect(app.set('other', 1)).rejects.toThrow('NOPERM');
    await expect(app.config('GET', 'maxmemory')).rejects.toThrow('NOPERM');
    expect(await guarded.keys()).toEqual(['state:a']);
    expect(await guarded.info('memory')).toContain('maxmemory_human:10.00M');
  });

  it('says why it could not start', async () => {
    await expect(RedisServer.start({ args: ['--no-such-option', 'x'] })).rejects.toThrow(
      'Bad directive or wrong number of arguments',
    );
  });
});

describe('RedisServer that has ended', () => {
  it('is started again on its port with what it kept on disk, and killed and stopped in any state', async () => {
    await using server = await RedisServer.start({ persistent: true });
    const client = server.connect({ retryStrategy: () => 20 });
    await client.set('kept', 'through all');
    for (const end of ['kill', 'stop'] as const) {
      for (const isPaused of [false, true]) {
        const { pid } = server;
        if (isPaused) server.pause();
        await server[end]();
        expect(isThere(pid)).toBe(false);
        expect(() => server.pid).toThrow('No server runs');
        await expect(server.keys()).rejects.toThrow('No server runs');

        await server.restart();
        expect(server.pid).not.toBe(pid);
        expect(await server.keys()).toEqual(['kept']);
        expect(await client.get('kept')).toBe('through all');
      }
    }
    await expect(server.restart()).rejects.toThrow('still runs');
  });

  it('gets its port back from whoever took it for a while', async () => {
    await using server = await RedisServer.start();
    await server.kill();
    const stranger = createServer((socket) => socket.end('+OK\r\n')).listen(server.port, '127.0.0.1');
    await once(stranger, 'listening');
    const restarted = server.restart();
    expect(await isOpen(restarted)).toBe(true);
    stranger.close();

    await restarted;
    expect(await server.connect().ping()).toBe('PONG');
  });

  it('has lost everything if it is not persistent', async () => {
    await using server = await RedisServer.start();
    await server.connect().set('lost', 1);
    await server.stop();
    await server.restart();

    expect(await server.keys()).toEqual([]);
  });

  it('answers only when its data is loaded', async () => {
    await using server = await RedisServer.start({ persistent: true, args: ['--key-load-delay', '100'] });
    const client = server.connect();
    await Promise.all(Array.from({ length: 3_000 }, (_, index) => client.set(`key:${index}`, index)));
    client.disconnect();
    await server.kill();
    await server.restart();

    expect(await server.keys()).toHaveLength(3_000);
    expect(await server.info('commandstats')).toMatch(/^cmdstat_ping:.*rejected_calls=[1-9]/m);
  });

  it.each([
    ['running', () => undefined],
    ['paused', (server: RedisServer) => server.pause()],
    ['killed', (server: RedisServer) => server.kill()],
    ['stopped', (server: RedisServer) => server.stop()],
  ])(
    'is disposed of when it is %s, with its folder and its clients, and once is enough',
    async (_, bring) => {
      const server = await RedisServer.start();
      const client = server.connect({ retryStrategy: () => 20 });
      const [, folder] = (await client.config('GET', 'dir')) as string[];
      const { pid } = server;
      await bring(server);
      await server[Symbol.asyncDispose]();
      await server[Symbol.asyncDispose]();
      let attempts = 0;
      client.on('connecting', () => (attempts += 1));
      await sleep(60);

      expect(attempts).toBe(0);
      expect(isThere(pid)).toBe(false);
      expect(existsSync(folder)).toBe(false);
    },
  );

  it('does not outlive the process that started it, however that ends', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'nestjs-state-'));
    try {
      await symlink(resolve('node_modules'), join(folder, 'node_modules'), 'dir');
      await copyFile(resolve('test/support/programs.mjs'), join(folder, 'programs.mjs'));
      for (const name of ['process', 'redis-server']) {
        const { code } = await transform(await readFile(resolve(`test/support/${name}.ts`), 'utf8'), {
          swcrc: false,
          jsc: { target: 'es2022', parser: { syntax: 'typescript' } },
          module: { type: 'es6' },
        });
        await writeFile(join(folder, `${name}.js`), code);
      }
      await writeFile(join(folder, 'package.json'), '{ "type": "module" }');
      const main = `import { RedisServer } from './redis-server.js';
        const server = await RedisServer.start();
        console.log(server.port + ' ' + (await server.connect().config('GET', 'dir'))[1]);`;
      await writeFile(join(folder, 'main.js'), main);

      const owner = spawn(process.execPath, ['main.js'], {
        cwd: folder,
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      const [line] = (await once(owner.stdout, 'data')) as [Buffer];
      const [port, dir] = line.toString().trim().split(' ');
      expect(await isListening(Number(port))).toBe(true);
      owner.kill('SIGKILL');
      await until(
        'the server and its folder are gone',
        async () => !existsSync(dir) && !(await isListening(Number(port))),
      );
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  });
});

describe('RedisCluster', () => {
  it('spreads the keys over three masters', async () => {
    await using cluster = await RedisCluster.start();
    const client = cluster.connect();
    const keys = Array.from({ length: 60 }, (_, index) => `key:${index}`);
    await Promise.all(keys.map((key) => client.set(key, key)));

    expect(await Promise.all(keys.map((key) => client.get(key)))).toEqual(keys);
    const byNode = await Promise.all(cluster.nodes.map((node) => node.keys()));
    expect(byNode.map(({ length }) => length > 0)).toEqual([true, true, true]);
    expect(byNode.flat().sort()).toEqual(keys.sort());
    expect(
      client
        .nodes('master')
        .map(({ options: { port } }) => port)
        .sort(),
    ).toEqual(cluster.startupNodes.map(({ port }) => port).sort());

    await cluster.flush();
    expect((await Promise.all(cluster.nodes.map((node) => node.keys()))).flat()).toEqual([]);
    const ended = once(client, 'end');
    await cluster[Symbol.asyncDispose]();
    await ended;
    expect(cluster.nodes.map(({ isRunning }) => isRunning)).toEqual([false, false, false]);
  });
});

describe('RedisSentinelSetup', () => {
  it('makes the replica the master when the master is killed, with its data', async () => {
    await using setup = await RedisSentinelSetup.start();
    const client = setup.connect({ sentinelRetryStrategy: () => 50, retryStrategy: () => 50 });
    await client.set('kept', 'by both');
    expect(await client.wait(1, 5_000)).toBe(1);
    expect(await client.config('GET', 'port')).toEqual(['port', String(setup.master.port)]);
    await setup.failover();

    expect(setup.master.isRunning).toBe(false);
    expect(await client.config('GET', 'port')).toEqual(['port', String(setup.replica.port)]);
    expect(await client.get('kept')).toBe('by both');
    expect(await client.set('more', 1)).toBe('OK');
    expect(await setup.replica.keys()).toEqual(['kept', 'more']);
  });
});

describe('RedisProxy', () => {
  let server: RedisServer;

  beforeAll(async () => {
    server = await RedisServer.start();
  });
  afterAll(() => server[Symbol.asyncDispose]());

  const through = ({ port }: RedisProxy, protocol: 2 | 3 = 3) =>
    server.connect({ port, protocol, retryStrategy: () => 20 });

  it.each([2, 3] as const)('loses published messages and nothing else, with RESP%i', async (protocol) => {
    await using proxy = await RedisProxy.start(server.port, { dropPubSub: true });
    const subscriber = through(proxy, protocol);
    const received: unknown[] = [];
    for (const event of ['message', 'pmessage', 'smessage']) {
      subscriber.on(event, (...args: unknown[]) => received.push(args));
    }
    expect(await subscriber.subscribe('lost', 'other')).toBe(2);
    expect(await subscriber.psubscribe('lo*')).toBe(3);
    expect(await subscriber.ssubscribe('lost')).toBe(1);

    const publisher = through(proxy, protocol);
    expect(await publisher.publish('lost', randomBytes(100_000))).toBe(2);
    expect(await publisher.spublish('lost', 'sharded')).toBe(1);
    await until('all messages are dropped', async () => proxy.dropped === 3);
    expect(await subscriber.unsubscribe('other')).toBe(2);
    expect(received).toEqual([]);
    expect(proxy.dropped).toBe(3);
  });

  it.each([2, 3] as const)('lets every reply of RESP%i pass unharmed', async (protocol) => {
    await using proxy = await RedisProxy.start(server.port, { dropPubSub: true });
    const client = through(proxy, protocol);
    const large = Array.from({ length: 8 }, (_, index) => randomBytes(MEGABYTE + index));
    const tricky = Buffer.from('\r\n>3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nb\r\n');
    await Promise.all(large.map((bytes, index) => client.set(`large:${index}`, bytes)));
    await client.hset('hash', 'message', tricky, 'other', '');
    await client.rpush('list', 'message', 'a', 'b', 'c');

    const read = await Promise.all(large.map((_, index) => client.getBuffer(`large:${index}`)));
    expect(read.map((bytes, index) => bytes?.equals(large[index]))).toEqual(large.map(() => true));
    expect(await client.hgetallBuffer('hash')).toEqual({ message: tricky, other: Buffer.alloc(0) });
    expect(await client.lrange('list', 0, -1)).toEqual(['message', 'a', 'b', 'c']);
    expect(await client.lrange('none', 0, -1)).toEqual([]);
    expect(await client.get('none')).toBeNull();
    await expect(client.incr('list')).rejects.toThrow('WRONGTYPE');
    expect(await client.multi().incr('n').get('none').hgetall('hash').exec()).toHaveLength(3);
    await client.flushall();
    expect(proxy.dropped).toBe(0);
  });

  it.each([1, 2, 3, 7, 10_000])(
    'finds the messages between all types, in packets of %i bytes',
    async (size) => {
      const message = '>3\r\n$7\r\nmessage\r\n$1\r\na\r\n$4\r\n\r\n>3\r\n';
      const kept = [
        '+OK\r\n-ERR no\r\n:-1\r\n$-1\r\n$0\r\n\r\n*-1\r\n*0\r\n_\r\n#t\r\n,1.5\r\n(123456789012345678901234567890\r\n',
        '$7\r\nmessage\r\n!5\r\nERR x\r\n=7\r\ntxt:a\r\n\r\n>3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n',
        `*2\r\n${message}~1\r\n*1\r\n:1\r\n%2\r\n+a\r\n*1\r\n_\r\n$1\r\nb\r\n%0\r\n`,
        '|1\r\n+ttl\r\n:3\r\n*2\r\n$7\r\nmessage\r\n:1\r\n*3\r\n+message\r\n:1\r\n:2\r\n>2\r\n$10\r\ninvalidate\r\n_\r\n',
      ];
      const bytes = Buffer.from(message + kept.join(message) + message.replace('>', '*') + ':9\r\n');
      const fake = createServer({ noDelay: true }, async (socket) => {
        for (let start = 0; start < bytes.length; start += size) {
          socket.write(bytes.subarray(start, start + size));
          await sleep(0);
        }
        socket.end();
      }).listen(0, '127.0.0.1');
      await once(fake, 'listening');
      await using proxy = await RedisProxy.start((fake.address() as AddressInfo).port, { dropPubSub: true });
      const client = createConnection(proxy.port, '127.0.0.1').setEncoding('utf8');

      expect((await client.toArray()).join('')).toBe(`${kept.join('')}:9\r\n`);
      expect(proxy.dropped).toBe(5);
      fake.close();
    },
  );

  it('delivers messages when they are not to be dropped', async () => {
    await using proxy = await RedisProxy.start(server.port);
    const subscriber = through(proxy);
    await subscriber.subscribe('kept');
    const message = once(subscriber, 'message');
    await through(proxy).publish('kept', 'text');

    expect(await message).toEqual(['kept', 'text']);
    expect(proxy.dropped).toBe(0);
  });

  it('delays what the server says, in order', async () => {
    await using proxy = await RedisProxy.start(server.port);
    const client = through(proxy);
    await client.ping();
    proxy.delayMs = 300;
    const startMs = performance.now();
    const slow = client.echo('slow');
    expect(await isOpen(slow)).toBe(true);
    proxy.delayMs = 0;
    const fast = client.echo('fast');

    // Replies are told apart by nothing but their order.
    expect(await Promise.all([slow, fast])).toEqual(['slow', 'fast']);
    expect(performance.now() - startMs).toBeGreaterThanOrEqual(300);
  });

  it('breaks all connections, and takes new ones', async () => {
    await using proxy = await RedisProxy.start(server.port);
    const clients = [through(proxy), through(proxy)];
    await Promise.all(clients.map((client) => client.ping()));
    const closed = clients.map((client) => once(client, 'close'));
    proxy.cut();
    await Promise.all(closed);

    expect(await Promise.all(clients.map((client) => client.ping()))).toEqual(['PONG', 'PONG']);
  });

  it('holds everything back in both directions while it is stalled, and closes nothing', async () => {
    await using proxy = await RedisProxy.start(server.port);
    const client = through(proxy);
    const late = through(proxy);
    await Promise.all([client.ping(), late.subscribe('held')]);
    let closed = 0;
    client.once('close', () => (closed += 1));
    proxy.stall();
    const answers = Promise.all([client.set('held', 'back'), client.get('held')]);
    const message = once(late, 'message');
    await server.connect().publish('held', 'text');
    const newcomer = through(proxy).ping();
    expect(await Promise.all([answers, message, newcomer].map((held) => isOpen(held)))).toEqual([
      true,
      true,
      true,
    ]);
    expect(await server.keys('held')).toEqual([]);
    expect(closed).toBe(0);
    proxy.unstall();

    expect(await answers).toEqual(['OK', 'back']);
    expect(await message).toEqual(['held', 'text']);
    expect(await newcomer).toBe('PONG');
    expect(closed).toBe(0);
  });

  it('holds nothing back but answers while it is mute, also on new connections', async () => {
    await using proxy = await RedisProxy.start(server.port);
    const [client, subscriber] = [through(proxy), through(proxy)];
    await Promise.all([client.ping(), subscriber.subscribe('heard')]);
    proxy.mute();
    const message = once(subscriber, 'message');
    const answers = Promise.all([client.publish('heard', 'text'), through(proxy).ping()]);
    expect(await message).toEqual(['heard', 'text']);
    expect(await isOpen(answers)).toBe(true);
    proxy.unmute();

    expect(await answers).toEqual([1, 'PONG']);
  });

  it('hides the end of a server while it is stalled, and passes it on afterwards', async () => {
    await using other = await RedisServer.start();
    await using proxy = await RedisProxy.start(other.port);
    const client = other.connect({ port: proxy.port, retryStrategy: () => null });
    await client.ping();
    const closed = once(client, 'close');
    proxy.stall();
    await other.kill();
    expect(await isOpen(closed)).toBe(true);
    proxy.unstall();

    await closed;
  });

  it.each([
    ['open', () => undefined],
    ['stalled', (proxy: RedisProxy) => proxy.stall()],
  ])('is disposed of when it is %s, with all connections, and once is enough', async (_, bring) => {
    const proxy = await RedisProxy.start(server.port);
    const client = server.connect({ port: proxy.port, retryStrategy: () => null });
    await client.ping();
    bring(proxy);
    const ended = once(client, 'end');
    await proxy[Symbol.asyncDispose]();
    await proxy[Symbol.asyncDispose]();

    await ended;
    expect(await isListening(proxy.port)).toBe(false);
  });
});

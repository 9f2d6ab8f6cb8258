import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { requireProgram } from '../../support/programs.mjs';

const HOST = '127.0.0.1';
const PATIENCE_MS = 10_000;

/** A Redis of our own on the loopback interface, without persistence. Only ever ends what it has started. */
export class BenchRedis {
  #child;
  #folder;
  #release;
  #clients = new Set();

  static async start() {
    const redis = new BenchRedis();
    await redis.#start();
    return redis;
  }

  get port() {
    return this.portNumber;
  }

  get url() {
    return `redis://${HOST}:${this.portNumber}`;
  }

  /** A client that is disconnected together with the server. Closed connections are no news here. */
  connect(options = {}) {
    const client = new Redis({ host: HOST, port: this.portNumber, ...options });
    client.on('error', () => undefined);
    client.once('end', () => this.#clients.delete(client));
    this.#clients.add(client);
    return client;
  }

  async version() {
    const client = this.connect();
    const info = await client.info('server');
    client.disconnect();
    return /redis_version:(\S+)/.exec(info)?.[1] ?? 'of unknown version';
  }

  async stop() {
    for (const client of this.#clients) client.disconnect();
    const child = this.#child;
    if (child.exitCode === null && child.signalCode === null) {
      const ended = once(child, 'close');
      child.kill('SIGKILL');
      await ended;
    }
    this.#release();
    await rm(this.#folder, { recursive: true, force: true });
  }

  async #start() {
    this.#folder = await mkdtemp(join(tmpdir(), 'nestjs-state-bench-'));
    this.portNumber = await freePort();
    const args = ['--bind', HOST, '--port', String(this.portNumber), '--dir', this.#folder];
    this.#child = spawn(
      requireProgram('redis-server'),
      [...args, '--daemonize', 'no', '--save', '', '--appendonly', 'no'],
      { cwd: this.#folder, stdio: 'ignore' },
    );
    this.#release = endWithThisProcess(this.#child, this.#folder);
    const client = this.connect({ maxRetriesPerRequest: null, retryStrategy: () => 20 });
    const late = delay(PATIENCE_MS, 'late', { ref: false });
    // Asked for its own id: nobody else may have taken the port meanwhile.
    const info = await Promise.race([client.info('server'), late]);
    client.disconnect();
    if (!info.includes(`process_id:${this.#child.pid}\r\n`)) {
      await this.stop();
      throw new Error(`The Redis server on ${this.url} did not start.`);
    }
  }
}

async function freePort() {
  const server = createServer().listen(0, HOST);
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}

/**
 * Leaves nothing behind however this process ends: a shell waits for the end of a pipe that closes with it. Returns what
 * has to be called when the server has ended, whose id may be somebody else's soon.
 */
function endWithThisProcess(child, folder) {
  const script = 'read -r released || { kill -KILL "$1"; sleep 0.1; rm -rf "$2"; }';
  const guard = spawn('/bin/sh', ['-c', script, 'guard', String(child.pid), folder], {
    cwd: '/',
    // A group of its own: Ctrl+C must not take the guard first.
    detached: true,
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  guard.unref();
  guard.stdin.unref?.();
  guard.stdin.on('error', () => undefined);
  return () => guard.stdin.end('released\n');
}

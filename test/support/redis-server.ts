import { spawn, type ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createConnection } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Redis, type RedisOptions } from 'ioredis';
import { freePort } from './process.js';
import { requireProgram } from './programs.mjs';

const HOST = '127.0.0.1';
const ATTEMPTS = 5;
const PATIENCE_MS = 30_000;
const BIND_FAILED = /Address already in use|Failed listening on port/;
/** Who the helpers below are to the server: able to do everything, whatever a test makes of the default user. */
const ADMIN = 'test-support';
/** By default, ioredis keeps a timer for 2 s when a client is disconnected whose server is gone. */
export const DISCONNECT_TIMEOUT_MS = 50;

export interface RedisServerOptions {
  /** More arguments of the command line: they win over everything else. */
  readonly args?: readonly string[];
  /** Lines of the configuration file, which the server itself may rewrite. */
  readonly config?: readonly string[];
  /** ACL users, as in a configuration file: `user app on >pw ~state:* &state:* +@all -config`. */
  readonly users?: readonly string[];
  /** Write each command to an append-only file before it is answered, so that it outlives a kill. @default false */
  readonly persistent?: boolean;
}

/** A real Redis server in a process of its own, in a folder of its own. Only ever ends what it has started. */
export class RedisServer implements AsyncDisposable {
  readonly host = HOST;
  readonly url: string;
  private child: ChildProcess | undefined;
  private ended: Promise<unknown> = Promise.resolve();
  private text = '';
  private adminClient: Redis | undefined;
  private readonly clients = new Set<Redis>();
  // Also tells this server from a stranger that took the port first.
  private readonly password = randomBytes(16).toString('hex');

  private constructor(
    readonly port: number,
    private readonly folder: string,
    private readonly args: readonly string[],
  ) {
    this.url = `redis://${HOST}:${port}`;
  }

  /** Starts a server on a free port and resolves once it answers. */
  static async start(options: RedisServerOptions = {}): Promise<RedisServer> {
    const { args = [], config = [], users = [], persistent = false } = options;
    const durability = ['--appendonly', persistent ? 'yes' : 'no', '--appendfsync', 'always'];
    for (let attempt = 1; ; attempt += 1) {
      const folder = await mkdtemp(join(tmpdir(), 'nestjs-state-redis-'));
      const server = new RedisServer(await freePort(), folder, [...durability, ...args]);
      try {
        const admin = `user ${ADMIN} on >${server.password} ~* &* +@all`;
        await writeFile(server.configFile, [admin, ...users, ...config, ''].join('\n'));
        await server.launch();
        return server;
      } catch (error) {
        await server[Symbol.asyncDispose]();
        // Somebody else took the port between the look and the bind.
        if (attempt === ATTEMPTS || !BIND_FAILED.test(server.log)) throw error;
      }
    }
  }

  get pid(): number {
    const pid = this.isRunning ? this.child?.pid : undefined;
    if (pid === undefined) throw new Error(`No server runs on ${this.url}.`);
    return pid;
  }

  get isRunning(): boolean {
    const { pid, exitCode, signalCode } = this.child ?? {};
    return pid !== undefined && exitCode === null && signalCode === null;
  }

  /** Everything the server has logged since it was started first. */
  get log(): string {
    return this.text;
  }

  /** Stops the process where it is: connections stay open, and nothing is answered until `resume()`. */
  pause(): void {
    process.kill(this.pid, 'SIGSTOP');
  }

  resume(): void {
    process.kill(this.pid, 'SIGCONT');
  }

  /** Ends the server as a crash does, also a paused one. */
  async kill(): Promise<void> {
    await this.end('SIGKILL');
  }

  /** Asks the server to shut down, also a paused one. */
  async stop(): Promise<void> {
    await this.end('SIGTERM');
  }

  /** Starts the ended server again, on its port and in its folder; resolves once its data is loaded. */
  async restart(): Promise<void> {
    if (this.isRunning) throw new Error(`The server on ${this.url} still runs.`);
    const deadline = performance.now() + PATIENCE_MS;
    for (;;) {
      const logged = this.text.length;
      try {
        return await this.launch();
      } catch (error) {
        await this.kill();
        // An outgoing connection, even one to this very port, may hold the port for a moment.
        if (performance.now() > deadline || !BIND_FAILED.test(this.text.slice(logged))) throw error;
        await delay(50);
      }
    }
  }

  /**
   * A client of this server that is disconnected together with it; give it the port of a proxy to go through
   * that. Its `error` events go unheard: of a server that is killed on purpose they are no news.
   */
  connect(options: RedisOptions = {}): Redis {
    const client = new Redis({
      host: HOST,
      port: this.port,
      disconnectTimeout: DISCONNECT_TIMEOUT_MS,
      ...options,
    });
    client.on('error', () => undefined);
    client.once('end', () => this.clients.delete(client));
    this.clients.add(client);
    return client;
  }

  /** A section of INFO, or all of the default ones. */
  async info(section = 'default'): Promise<string> {
    return this.admin.info(section);
  }

  /**
   * How often a command was executed, also if it failed, since the server started: `evalsha`, `client|kill`.
   * What a script calls counts as a command of its own. The helpers here add to `auth`, `hello`, `info`,
   * `ping` and what they are called after.
   */
  async commandCalls(name: string): Promise<number> {
    const prefix = `cmdstat_${name.toLowerCase()}:calls=`;
    const line = (await this.info('commandstats')).split('\r\n').find((row) => row.startsWith(prefix));
    return line === undefined ? 0 : Number.parseInt(line.slice(prefix.length), 10);
  }

  /** Closes the connections of a kind, and tells how many there were. */
  async killClients(type: 'normal' | 'pubsub'): Promise<number> {
    return this.admin.call('CLIENT', 'KILL', 'TYPE', type, 'SKIPME', 'yes') as Promise<number>;
  }

  async flush(): Promise<void> {
    await this.admin.flushall();
  }

  /** The keys that match, in order. */
  async keys(pattern = '*'): Promise<string[]> {
    return (await this.admin.keys(pattern)).sort();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const client of this.clients) client.disconnect();
    await this.kill();
    await rm(this.folder, { recursive: true, force: true });
  }

  private get configFile(): string {
    return join(this.folder, 'redis.conf');
  }

  private get admin(): Redis {
    if (!this.isRunning) throw new Error(`No server runs on ${this.url}.`);
    this.adminClient ??= this.connect({
      username: ADMIN,
      password: this.password,
      disableClientInfo: true,
      commandTimeout: PATIENCE_MS,
    });
    return this.adminClient;
  }

  private async launch(): Promise<void> {
    const places = [this.configFile, '--bind', HOST, '--port', String(this.port), '--dir', this.folder];
    const child = spawn(
      requireProgram('redis-server'),
      [...places, '--daemonize', 'no', '--save', '', ...this.args],
      { cwd: this.folder, stdio: ['ignore', 'pipe', 'pipe'] },
    );
    this.child = child;
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (chunk: string) => (this.text += chunk));
    }
    // Closed, and not only exited: what it wrote last tells why it ended.
    this.ended = once(child, 'close').catch((error: unknown) => (this.text += String(error)));
    const release = endWithThisProcess(child, this.folder);
    void this.ended.then(release);

    const deadline = performance.now() + PATIENCE_MS;
    while (!(await this.answersPing())) {
      if (!this.isRunning || performance.now() > deadline) {
        if (!this.isRunning) await this.ended;
        throw new Error(`The Redis server on ${this.url} does not answer. It logged:\n${this.text}`);
      }
      await delay(10);
    }
  }

  /** Whether it is this server that answers, and with its data loaded. */
  private answersPing(): Promise<boolean> {
    const socket = createConnection(this.port, HOST).setEncoding('utf8').setTimeout(1_000);
    let reply = '';
    socket.write(`AUTH ${ADMIN} ${this.password}\r\nPING\r\n`);
    return new Promise((resolve) => {
      socket
        .on('data', (chunk: string) => {
          reply += chunk;
          if (reply.split('\r\n').length > 2) socket.destroy();
        })
        .on('error', () => undefined)
        .once('timeout', () => socket.destroy())
        .once('close', () => resolve(reply === '+OK\r\n+PONG\r\n'));
    });
  }

  private async end(signal: 'SIGKILL' | 'SIGTERM'): Promise<void> {
    this.adminClient?.disconnect();
    this.adminClient = undefined;
    if (!this.isRunning) return;
    this.child?.kill(signal);
    // A paused process takes no other signal but SIGKILL until it goes on.
    if (signal !== 'SIGKILL') this.child?.kill('SIGCONT');
    await this.ended;
  }
}

/** Polls until the condition holds; rejects with what was waited for when it does not in the end. */
export async function until(
  what: string,
  condition: () => Promise<boolean>,
  withinMs = PATIENCE_MS,
): Promise<void> {
  const deadline = performance.now() + withinMs;
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`Not within ${withinMs} ms: ${what}.`);
    await delay(20);
  }
}

/**
 * Leaves neither the running server nor its folder behind when this process dies, however it does: a shell
 * waits for the end of a pipe that closes with this process. (Inside Jest no `exit` listener is ever called,
 * and SIGKILL calls none at all.) Returns what has to be called once the server has ended: its id may
 * be somebody else's soon.
 */
function endWithThisProcess(child: ChildProcess, folder: string): () => void {
  if (child.pid === undefined) return () => undefined;
  const script = 'read -r released || { kill -KILL "$1"; sleep 0.1; rm -rf "$2"; }';
  const guard = spawn('/bin/sh', ['-c', script, 'guard', String(child.pid), folder], {
    cwd: '/',
    // A group of its own: a signal to the tests' group must not take the guard first.
    detached: true,
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  guard.unref();
  guard.stdin.on('error', () => undefined);
  return () => guard.stdin.end('released\n');
}

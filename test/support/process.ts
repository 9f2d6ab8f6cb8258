import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { get } from 'node:http';
import { createServer } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';

/** How a process ended. */
export interface ProcessEnd {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export interface StartOptions {
  readonly args: readonly string[];
  readonly cwd: string;
  readonly env?: Record<string, string>;
  /** Give the process a group of its own, so that what it starts can be ended with it. @default false */
  readonly ownGroup?: boolean;
}

/** A server in a process of its own, listening on a loopback port. Only ever ends what it has started. */
export class ServerProcess implements AsyncDisposable {
  readonly url: string;
  private text = '';
  private readonly ended: Promise<ProcessEnd>;

  private constructor(
    readonly child: ChildProcess,
    readonly port: number,
    private readonly hasOwnGroup: boolean,
  ) {
    this.url = `http://127.0.0.1:${port}`;
    for (const stream of [child.stdout, child.stderr]) {
      stream?.setEncoding('utf8').on('data', (chunk: string) => (this.text += chunk));
    }
    this.ended = once(child, 'exit').then(([code, signal]) => ({ code, signal }) as ProcessEnd);
  }

  /** Starts `command` with a free `PORT` and resolves once that port answers HTTP. */
  static async start(command: string, { args, cwd, env = {}, ownGroup = false }: StartOptions) {
    const port = await freePort();
    const child = spawn(command, args, {
      cwd,
      env: { ...environment(), ...env, PORT: String(port) },
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: ownGroup,
    });
    const server = new ServerProcess(child, port, ownGroup);
    try {
      await server.whenAnswering();
      return server;
    } catch (error) {
      await server[Symbol.asyncDispose]();
      throw error;
    }
  }

  get pid(): number {
    if (this.child.pid === undefined) throw new Error('The process could not be started.');
    return this.child.pid;
  }

  /** Everything it has written so far. */
  get output(): string {
    return this.text;
  }

  /** Asks it to end and tells how it did; rejects when it has not ended in time. */
  async end(signal: NodeJS.Signals, withinMs: number): Promise<ProcessEnd> {
    this.child.kill(signal);
    return this.whenEnded(withinMs);
  }

  async whenEnded(withinMs: number): Promise<ProcessEnd> {
    const late = new AbortController();
    const tooLate = delay(withinMs, undefined, { signal: late.signal }).then(() => {
      throw new Error(`The process was still running after ${withinMs} ms. It wrote:\n${this.text}`);
    });
    tooLate.catch(() => undefined);
    try {
      return await Promise.race([this.ended, tooLate]);
    } finally {
      late.abort();
    }
  }

  /** Resolves once nothing is left of the process's own group; rejects when something is, in the end. */
  async whenGroupIsGone(withinMs: number): Promise<void> {
    if (!this.hasOwnGroup) throw new Error('The process shares the group of this one.');
    const deadline = performance.now() + withinMs;
    while (hasMembers(this.pid)) {
      if (performance.now() > deadline) throw new Error(`Still running after ${withinMs} ms:\n${this.text}`);
      await delay(20);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.hasOwnGroup && this.child.pid !== undefined) endGroup(this.child.pid);
    else if (this.isRunning) this.child.kill('SIGKILL');
    if (this.isRunning) await this.ended;
  }

  private get isRunning(): boolean {
    return this.child.pid !== undefined && this.child.exitCode === null && this.child.signalCode === null;
  }

  private async whenAnswering(withinMs = 120_000): Promise<void> {
    const deadline = performance.now() + withinMs;
    let failedToSpawn: Error | undefined;
    this.child.once('error', (error) => (failedToSpawn = error));
    for (;;) {
      if (failedToSpawn !== undefined) throw failedToSpawn;
      if (this.child.pid !== undefined && !this.isRunning) {
        throw new Error(`The process ended before it answered. It wrote:\n${this.text}`);
      }
      if (await answers(`${this.url}/`)) return;
      if (performance.now() > deadline) throw new Error(`No answer in time. It wrote:\n${this.text}`);
      await delay(50);
    }
  }
}

/** A port of the loopback interface that was free a moment ago. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, 'close');
  return port;
}

/** Whether `url` answers, whatever it says. */
export function answers(url: string): Promise<boolean> {
  return new Promise((resolve) => {
    // A connection of its own: one that is kept and asked again and again would keep a server from closing.
    const request = get(url, { agent: false }, (response) => {
      response.resume().once('close', () => resolve(true));
    });
    request.once('error', () => resolve(false));
  });
}

/** This process's environment without what would configure the library or the test runner in a child. */
export function environment(): Record<string, string> {
  return Object.fromEntries(
    Object.entries(process.env).filter(
      (entry): entry is [string, string] =>
        entry[1] !== undefined &&
        !/^(STATE_|npm_|NODE_OPTIONS$|NODE_ENV$|JEST_|REDIS_URL$|PORT$|INIT_CWD$)/.test(entry[0]),
    ),
  );
}

function hasMembers(group: number): boolean {
  try {
    return process.kill(-group, 0);
  } catch {
    return false;
  }
}

function endGroup(leader: number): void {
  try {
    process.kill(-leader, 'SIGKILL');
  } catch {
    // Nobody of the group is left.
  }
}

import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join, resolve } from 'node:path';
import type { StateModuleOptions, StateStats } from 'nestjs-state';
import { environment } from './process.js';

/** One turn as its process saw it; times are milliseconds of the machine's monotonic clock, the same in every process. */
export interface TurnRecord {
  readonly id: string;
  readonly ident: string;
  readonly startMs: number;
  /** When its code began to run, and had run. */
  readonly beginMs?: number;
  readonly ranMs?: number;
  readonly endMs: number;
  readonly outcome: 'stored' | 'not stored' | 'unknown';
  /** The count it has made. */
  readonly value?: number;
  readonly code?: string;
}

export interface WorkerRun {
  readonly tasks: number;
  readonly idents: readonly string[];
  /** Turns of each task. @default no end */
  readonly turns?: number;
  /** The longest a turn waits in its middle. @default 0 */
  readonly workMs?: number;
  /** How long a task rests after a turn. @default 0 */
  readonly restMs?: number;
  /** Keep the id of each turn in the state. @default true */
  readonly keepsEntries?: boolean;
  /** Report the turns when all are done, so that reporting takes no time from them. @default false */
  readonly reportsLast?: boolean;
}

/** What one watcher was told. */
export interface WatcherReport {
  readonly told: number;
  /** How many changes did not follow the one before. */
  readonly gaps: number;
  /** Version, count and number of entries of the last one. */
  readonly last: number;
  readonly count: number;
  readonly entries: number;
}

export interface WorkerTransfers {
  readonly idents: readonly string[];
  readonly tasks: number;
}

export interface Ledger {
  readonly count: number;
  readonly entries: readonly string[];
}

type Message =
  | { type: 'ready' }
  | { type: 'turns'; records: readonly TurnRecord[] }
  | { type: 'answer'; id: number; result?: unknown; failure?: string };

/** An application in a process of its own, with the manager that its options ask for. Needs the built package. */
export class ManagerWorker implements AsyncDisposable {
  readonly records: TurnRecord[] = [];
  private output = '';
  private commands = 0;
  private readonly answers = new Map<number, (message: Message & { type: 'answer' }) => void>();
  private readonly ended: Promise<unknown>;

  private constructor(private readonly child: ChildProcess) {
    this.ended = once(child, 'exit');
    for (const stream of [child.stdout, child.stderr])
      stream?.on('data', (chunk: Buffer) => (this.output += chunk.toString()));
    child.on('message', (message: Message) => {
      if (message.type === 'turns') for (const record of message.records) this.records.push(record);
      else if (message.type === 'answer') this.answers.get(message.id)?.(message);
    });
    void this.answerWhenEnded();
  }

  static async start(name: string, options: StateModuleOptions): Promise<ManagerWorker> {
    const file = join(import.meta.dirname, 'manager-worker.fixture.mjs');
    const child = fork(file, [JSON.stringify({ name, options })], {
      cwd: resolve(import.meta.dirname, '../..'),
      env: environment(),
      execArgv: [],
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    });
    const worker = new ManagerWorker(child);
    const ready = once(child, 'message');
    await Promise.race([
      ready,
      worker.ended.then(() => Promise.reject(new Error(`The worker did not start:\n${worker.output}`))),
    ]);
    return worker;
  }

  /** Everything it has put on its console. */
  get written(): string {
    return this.output;
  }

  /** Lets it take turns; resolves when all are done. */
  run(what: WorkerRun): Promise<void> {
    return this.ask('run', { turns: 1e9, ...what }) as Promise<void>;
  }

  /** Lets it move amounts between accounts until it is stopped; resolves with how many times it did. */
  transfer(what: WorkerTransfers): Promise<number> {
    return this.ask('transfer', what) as Promise<number>;
  }

  /**
   * Lets it move the states of each pair of idents, of which the first has some, between the two until it is stopped, and
   * count in them on the way. A turn that counts is recorded under the first of the two, with an id that ends in `/moved` if
   * it has moved them as well; one that does nothing but move, under `from to to`, with 1 if it did.
   */
  move(pairs: readonly (readonly [string, string])[]): Promise<void> {
    return this.ask('move', { pairs }) as Promise<void>;
  }

  /** Lets its tasks end after the turn they are in. */
  stop(): Promise<void> {
    return this.ask('stop') as Promise<void>;
  }

  /** Closes the application and waits until the process has gone by itself. */
  async close(): Promise<void> {
    await this.ask('close');
    await this.ended;
  }

  /** What its calls end in that wait for the turns of `idents`, when one signal ends them all after `waitMs`. */
  waitWithOneSignal(idents: readonly string[], waitMs: number): Promise<readonly string[]> {
    return this.ask('waitWithOneSignal', { idents, waitMs }) as Promise<readonly string[]>;
  }

  /** Lets so many of its watchers watch the ledger of `ident`; resolves when each has been told the first time. */
  watch(ident: string, count: number): Promise<void> {
    return this.ask('watch', { ident, count }) as Promise<void>;
  }

  /** What each of them was told, when the last of them has come to `version`. */
  watched(version: number): Promise<readonly WatcherReport[]> {
    return this.ask('watched', { version }) as Promise<readonly WatcherReport[]>;
  }

  unwatch(): Promise<void> {
    return this.ask('unwatch') as Promise<void>;
  }

  stats(): Promise<StateStats> {
    return this.ask('stats') as Promise<StateStats>;
  }

  read(ident: string): Promise<Ledger> {
    return this.ask('read', { ident }) as Promise<Ledger>;
  }

  /** SIGSTOP: the process does nothing any more, and its connections stay open. */
  pause(): void {
    this.child.kill('SIGSTOP');
  }

  resume(): void {
    this.child.kill('SIGCONT');
  }

  /** Lets it be killed in the middle of the next turn that it stores, and waits for that. */
  async dieWhileStoring(): Promise<void> {
    await this.ask('dieWhileStoring').catch(() => undefined);
    await this.ended;
  }

  async kill(): Promise<void> {
    this.child.kill('SIGKILL');
    await this.ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.child.exitCode === null && this.child.signalCode === null) await this.kill();
  }

  private async answerWhenEnded(): Promise<void> {
    await this.ended;
    for (const answer of this.answers.values())
      answer({ type: 'answer', id: 0, failure: `The process ended. It wrote:\n${this.output}` });
  }

  private async ask(command: string, what: object = {}): Promise<unknown> {
    if (!this.child.connected) throw new Error(`The process has ended. It wrote:\n${this.output}`);
    const id = (this.commands += 1);
    const answer = new Promise<Message & { type: 'answer' }>((done) => this.answers.set(id, done));
    this.child.send({ id, command, ...what });
    const { result, failure } = await answer;
    this.answers.delete(id);
    if (failure !== undefined) throw new Error(failure);
    return result;
  }
}

import { Logger } from '@nestjs/common';
import type { Clock } from '../../internal/clock.js';
import { DeadlineQueue, type DeadlineNode } from '../../internal/deadline-queue.js';
import { DeadlineWorker } from '../../internal/deadline-worker.js';
import { StateManagerClosedError, StateStoreUnavailableError, type StateError } from '../../state.errors.js';
import type { RedisClient, RedisStream } from './redis-client.js';
import { RedisClients } from './redis-clients.js';
import type { RedisScript } from './redis-scripts.js';

/** A key or an argument of a script. */
export type RedisArgument = string | number | Buffer;

export interface RedisConnectionOptions {
  readonly url: string | undefined;
  readonly client: object | undefined;
  readonly commandTimeoutMs: number;
  readonly clock: Clock;
}

/** After this many times `commandTimeout` without any answer a connection of our own is given up for a new one. */
const SILENT_TIMEOUTS = 3;

/** How many calls go out in one write. The server is at work on the first ones while further ones are made. */
const CALLS_PER_WRITE = 16;

/** How many keys a server looks at in one step of a scan. */
const SCAN_STEP = 1_000;
/** How many such steps are taken for a sample at most. */
const SAMPLE_STEPS = 20;

/** Some of the keys that match. */
export interface KeySample {
  readonly keys: readonly string[];
  /** How many match, as far as that is known. */
  readonly total: number | undefined;
  /** `total` is reckoned from the part that was looked at. */
  readonly isEstimate: boolean;
}

/** One call of a script, from the caller to its answer. */
class Call implements DeadlineNode {
  previous: DeadlineNode | undefined = undefined;
  next: DeadlineNode | undefined = undefined;
  deadlineMs = 0;
  /** Connections lost when it was sent; it may have been sent again if there are more by now. */
  epoch = -1;
  isOver = false;

  constructor(
    readonly script: RedisScript,
    readonly args: readonly RedisArgument[],
    readonly onReply: (reply: unknown) => void,
    readonly onError: (error: StateError) => void,
    readonly onLate: ((reply: unknown) => void) | undefined,
  ) {}
}

/**
 * Runs scripts, and ends each call within `commandTimeout`.
 *
 * Guarantee: a call either ends with the answer of a script that ran once, or fails with a
 * {@link StateStoreUnavailableError}; no call is sent while the server is known to be silent or away, so an outage makes
 * nothing grow. Recovers by itself, also with an empty script cache. Cost: no timer and no promise of its own for any
 * call, beyond what the client makes.
 */
export class RedisConnection {
  private readonly logger = new Logger('StateManager');
  private readonly clients: RedisClients;
  private readonly calls = new DeadlineQueue<Call>();
  private readonly timeouts: DeadlineWorker<Call>;
  private parked: Call[] = [];
  /** Scripts that the server has run over this connection: it knows them by their names. */
  private readonly known = new Set<string>();
  private readonly unsent = new WeakSet<object>();
  /** A call has timed out and nothing was heard since. */
  private isSilent = false;
  private heardAtMs = 0;
  private epoch = 0;
  private isClosed = false;
  /** Where writes wait for the end of the tick. */
  private corked: RedisStream | undefined;
  /** How many calls wait there. */
  private corkedCalls = 0;

  constructor(private readonly options: RedisConnectionOptions) {
    this.clients = new RedisClients(options, {
      onReady: () => this.goOn(),
      onLost: () => {
        this.epoch += 1;
        this.known.clear();
      },
    });
    this.timeouts = new DeadlineWorker(this.calls, {
      clock: options.clock,
      // Answers that came in while the event loop was blocked, or the process stopped, are read first.
      onDue: (call) => options.clock.startImmediate(() => this.timeOut(call)),
      onError: (error) => this.logger.error('Ending an overdue call failed.', error),
    });
  }

  /** What the client puts before every key, by an option of its own. */
  get keyPrefix(): string {
    return this.clients.keyPrefix;
  }

  /** PUBLISH counts the receivers of one node: on a cluster that says nothing. */
  get countsReceivers(): boolean {
    return !this.clients.isCluster;
  }

  /** One script can use the keys of any idents. */
  get isOneServer(): boolean {
    return !this.clients.isCluster;
  }

  /** @throws {StateStoreUnavailableError} when the server cannot be reached. @throws {InvalidStateOptionsError} */
  async open(channel: string, onMessage: (message: Buffer) => void): Promise<void> {
    this.timeouts.start();
    this.heardAtMs = this.options.clock.nowMs();
    await this.clients.open(channel, onMessage);
    // A client of the application that was ready before says so no more: what has been asked since then goes out.
    this.goOn();
  }

  /**
   * Closes what was opened here. A client of the application stays as it is. For when nothing is under way any more:
   * what still waits for its answer fails.
   */
  async close(): Promise<void> {
    this.isClosed = true;
    for (let call = this.calls.first; call !== undefined; call = this.calls.first) {
      this.end(call);
      call.onError(new StateManagerClosedError());
    }
    this.parked = [];
    this.timeouts.stop();
    await this.clients.close();
  }

  /**
   * Runs `script` with its keys and arguments. One of the first two functions is called, in a later tick; `onError` also
   * when `onReply` has thrown.
   *
   * @param onError Told of a {@link StateStoreUnavailableError} when there is no answer in time, or one that is an error.
   * Whether the script has run is unknown then, unless {@link wasNeverSent} says so.
   * @param onLate Told the answer when it comes after the call has timed out: the script did run.
   */
  call(
    script: RedisScript,
    args: readonly RedisArgument[],
    onReply: (reply: unknown) => void,
    onError: (error: StateError) => void,
    onLate?: (reply: unknown) => void,
  ): void {
    if (this.isClosed) {
      queueMicrotask(() => onError(new StateManagerClosedError()));
      return;
    }
    const call = new Call(script, args, onReply, onError, onLate);
    this.calls.push(call, this.options.clock.nowMs() + this.options.commandTimeoutMs);
    this.timeouts.wakeInTime();
    if (this.canSend) this.send(call);
    else this.park(call);
  }

  /** {@link call}, for what not every turn asks for. */
  run(script: RedisScript, args: readonly RedisArgument[]): Promise<unknown> {
    return new Promise((resolve, reject) => this.call(script, args, resolve, reject));
  }

  /** Whether the call that failed with `error` has never left this process. */
  wasNeverSent(error: unknown): boolean {
    return typeof error === 'object' && error !== null && this.unsent.has(error);
  }

  /** How many keys match `pattern`, over all nodes. Cost: a scan of the whole server, in small steps. */
  async countKeys(pattern: string): Promise<number> {
    let count = 0;
    for (const node of this.clients.masters()) count += await this.countKeysOf(node, pattern);
    return count;
  }

  /**
   * Looks at the first keys of each node, until some `limit` of them match `pattern`.
   *
   * Cost: a few steps of a scan, whatever the server holds.
   */
  async sampleKeys(pattern: string, limit: number): Promise<KeySample> {
    const nodes = this.clients.masters();
    const samples = await Promise.all(
      nodes.map((node) => this.sampleKeysOf(node, pattern, Math.ceil(limit / nodes.length))),
    );
    const counts = samples.map(({ total }) => total);
    return {
      keys: samples.flatMap(({ keys }) => keys),
      total: counts.reduce(
        (sum, count) => (sum === undefined || count === undefined ? undefined : sum + count),
        0,
      ),
      isEstimate: samples.some(({ isEstimate }) => isEstimate),
    };
  }

  private async sampleKeysOf(node: RedisClient, pattern: string, limit: number): Promise<KeySample> {
    const seen = new Set<string>();
    let cursor = '0';
    let steps = 0;
    try {
      do {
        const [next, keys]: [string, string[]] = await this.inTime(
          (client) => client.scan(cursor, 'MATCH', pattern, 'COUNT', SCAN_STEP),
          node,
        );
        cursor = next;
        steps += 1;
        for (const key of keys) seen.add(key);
      } while (cursor !== '0' && seen.size < limit && steps < SAMPLE_STEPS);
    } catch (error) {
      throw this.unavailable(error);
    }
    const keys = [...seen].slice(0, limit);
    if (cursor === '0') return { keys, total: seen.size, isEstimate: false };
    // Which user may ask for it is up to the server.
    const all = await this.inTime((client) => client.callBuffer('dbsize'), node).catch(() => undefined);
    const share = seen.size / (steps * SCAN_STEP);
    const total = typeof all === 'number' ? Math.max(seen.size, Math.round(all * share)) : undefined;
    return { keys, total, isEstimate: true };
  }

  private async countKeysOf(node: RedisClient, pattern: string): Promise<number> {
    // A key can be returned twice while the server rehashes.
    const seen = new Set<string>();
    let cursor = '0';
    do {
      let keys: string[];
      try {
        [cursor, keys] = await this.inTime(
          (client) => client.scan(cursor, 'MATCH', pattern, 'COUNT', SCAN_STEP),
          node,
        );
      } catch (error) {
        throw this.unavailable(error);
      }
      for (const key of keys) seen.add(key);
    } while (cursor !== '0');
    return seen.size;
  }

  private get canSend(): boolean {
    return this.clients.isReady && !this.isSilent;
  }

  private park(call: Call): void {
    this.parked.push(call);
    const silentMs = this.options.clock.nowMs() - this.heardAtMs;
    if (this.isSilent && silentMs > SILENT_TIMEOUTS * this.options.commandTimeoutMs) {
      // No answer, and no end of the connection either: what is on its way is sent again over a new one.
      this.heardAtMs = this.options.clock.nowMs();
      this.clients.reconnect();
    }
  }

  /** Something was heard of the server: what was held back goes out. */
  private goOn(): void {
    this.isSilent = false;
    this.heardAtMs = this.options.clock.nowMs();
    if (this.parked.length === 0 || !this.clients.isReady) return;
    for (const call of this.parked.splice(0)) if (!call.isOver) this.send(call);
  }

  /**
   * A script whose name the server may not know goes out as it is: one that had to be sent once more would come behind what
   * was sent after it, and a read would not find what was acknowledged before.
   */
  private send(call: Call, asSource = !this.known.has(call.script.sha)): void {
    const { script, args } = call;
    call.epoch = this.epoch;
    const { main } = this.clients;
    // Whoever is alone has nobody to wait for.
    if (this.calls.first !== call) this.batch(main);
    const sent = asSource
      ? main.evalBuffer(script.lua, script.keys, ...args)
      : main.evalshaBuffer(script.sha, script.keys, ...args);
    sent.then(
      (reply: unknown) => this.answered(call, reply),
      (error: unknown) => this.failed(call, error, asSource),
    );
  }

  /** What is sent within one tick goes out in few writes: a system call costs more than many a turn. */
  private batch({ stream }: RedisClient): void {
    if (stream === undefined) return;
    if (stream !== this.corked) {
      this.corked = stream;
      this.corkedCalls = 0;
      stream.cork();
      process.nextTick(this.uncork, stream);
    } else if (this.corkedCalls === CALLS_PER_WRITE) {
      this.corkedCalls = 0;
      stream.uncork();
      stream.cork();
    }
    this.corkedCalls += 1;
  }

  private readonly uncork = (stream: RedisStream): void => {
    // After a reconnection it may be another one by now: each is uncorked as often as it was corked.
    if (this.corked === stream) this.corked = undefined;
    stream.uncork();
  };

  private answered(call: Call, reply: unknown): void {
    this.goOn();
    if (call.epoch === this.epoch) this.known.add(call.script.sha);
    if (call.isOver) {
      call.onLate?.(reply);
      return;
    }
    this.end(call);
    if (reply === 0 && call.script.isFinal && call.epoch !== this.epoch) {
      call.onError(new StateStoreUnavailableError('The connection to Redis was lost before it answered.'));
      return;
    }
    try {
      call.onReply(reply);
    } catch (error) {
      // Nobody waits for a promise here: whoever asked is the only one who can hear of it.
      call.onError(error as StateError);
    }
  }

  private failed(call: Call, error: unknown, wasSource: boolean): void {
    const isReply = (error as { name?: unknown } | undefined)?.name === 'ReplyError';
    if (isReply) this.goOn();
    if (call.isOver) {
      // The client itself waits no longer for what made the server silent: nothing else would ever say that it is back.
      if (!isReply) this.isSilent = false;
      return;
    }
    if (isReply && !wasSource && (error as Error).message.startsWith('NOSCRIPT')) {
      this.send(call, true);
      return;
    }
    this.end(call);
    call.onError(this.unavailable(error));
  }

  private timeOut(call: Call): void {
    if (call.isOver) return;
    const wasSent = call.epoch >= 0;
    this.end(call);
    // On a cluster one node is silent, and the others are to be asked all the same.
    if (wasSent && !this.clients.isCluster) this.isSilent = true;
    // All wait equally long, so those that are over stand first.
    while (this.parked[0]?.isOver === true) this.parked.shift();
    const error = this.unavailable(this.clients.lastError);
    if (!wasSent) this.unsent.add(error);
    call.onError(error);
  }

  /** Sends a command that is no script, if it can be sent now: the client would keep it for later, and many of them. */
  private inTime<T>(command: (client: RedisClient) => Promise<T>, client: RedisClient): Promise<T> {
    if (!this.canSend) return Promise.reject(this.clients.lastError);
    return new Promise((resolve, reject) => {
      const timer = this.options.clock.startTimer(
        () => reject(this.clients.lastError),
        this.options.commandTimeoutMs,
      );
      command(client)
        .then(resolve, reject)
        .finally(() => timer.cancel());
    });
  }

  private end(call: Call): void {
    call.isOver = true;
    this.calls.remove(call);
  }

  private unavailable(cause: unknown): StateStoreUnavailableError {
    const isReply = (cause as { name?: unknown } | undefined)?.name === 'ReplyError';
    const { commandTimeoutMs } = this.options;
    return new StateStoreUnavailableError(
      isReply
        ? `Redis refused: ${(cause as Error).message}`
        : `Redis did not answer within ${commandTimeoutMs} ms (\`redis.commandTimeout\`).`,
      { cause },
    );
  }
}

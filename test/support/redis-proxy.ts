import { once } from 'node:events';
import { createConnection, createServer, type Server, type Socket } from 'node:net';

const HOST = '127.0.0.1';
const CRLF = '\r\n';

/** The kinds of messages, and how many elements theirs have: `message`, channel, payload. */
const MESSAGE_SIZES = new Map([
  ['message', 3],
  ['smessage', 3],
  ['pmessage', 4],
]);

export interface RedisProxyOptions {
  /**
   * Lose all that is published, and nothing else. A reply of RESP2 that looks exactly like a message is taken
   * for one. @default false
   */
  readonly dropPubSub?: boolean;
}

/** A bad network between clients and a Redis server. */
export class RedisProxy implements AsyncDisposable {
  readonly url: string;
  /** How long bytes of the server take to the client, from now on. They stay in order. */
  delayMs = 0;
  /** How many published messages were lost so far. */
  dropped = 0;
  private isStalled = false;
  private isMute = false;
  private readonly links = new Set<Link>();

  private constructor(
    private readonly server: Server,
    readonly port: number,
    serverPort: number,
    dropPubSub: boolean,
  ) {
    this.url = `redis://${HOST}:${port}`;
    server.on('connection', (client) => {
      const filter = dropPubSub ? new MessageFilter(() => (this.dropped += 1)) : undefined;
      const link = new Link(client, createConnection(serverPort, HOST), filter, () => this.delayMs);
      this.links.add(link);
      client.once('close', () => this.links.delete(link));
      if (this.isStalled) link.stall();
      if (this.isMute) link.mute();
    });
  }

  /** Listens on a free port and connects each client to the Redis server on `port`. */
  static async start(port: number, { dropPubSub = false }: RedisProxyOptions = {}): Promise<RedisProxy> {
    const server = createServer({ noDelay: true }).listen(0, HOST);
    await once(server, 'listening');
    return new RedisProxy(server, (server.address() as { port: number }).port, port, dropPubSub);
  }

  /** Breaks all connections; new ones are accepted. */
  cut(): void {
    for (const link of this.links) link.destroy();
  }

  /** Becomes a black hole: connections stay open, also new ones, and nothing comes through, not even their end. */
  stall(): void {
    this.isStalled = true;
    for (const link of this.links) link.stall();
  }

  /** Lets everything through that was held back. */
  unstall(): void {
    this.isStalled = false;
    for (const link of this.links) link.unstall();
  }

  /** Holds back what the server answers, also on new connections: what is asked, and what is published, comes through. */
  mute(): void {
    this.isMute = true;
    for (const link of this.links) link.mute();
  }

  /** Lets the answers through that were held back. */
  unmute(): void {
    this.isMute = false;
    for (const link of this.links) link.unmute();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.cut();
    if (!this.server.listening) return;
    this.server.close();
    await once(this.server, 'close');
  }
}

/** One client and its connection to the server. */
class Link {
  private isStalled = false;
  private isMute = false;
  /** Its client listens to what is published. */
  private isSubscriber = false;
  /** What the server said, and when it is due; `undefined` is the end. */
  private readonly queue: { readonly bytes: Buffer | undefined; readonly dueMs: number }[] = [];
  private timer: NodeJS.Timeout | undefined;

  constructor(
    private readonly client: Socket,
    private readonly server: Socket,
    filter: MessageFilter | undefined,
    private readonly delayMs: () => number,
  ) {
    server.setNoDelay();
    client
      .on('data', (bytes: Buffer) => {
        this.isSubscriber ||= bytes.includes('subscribe');
        server.write(bytes);
      })
      .on('error', () => undefined)
      .once('close', () => this.destroy());
    server
      .on('data', (bytes: Buffer) => this.enqueue(filter === undefined ? bytes : filter.push(bytes)))
      .on('error', () => undefined)
      .once('close', () => this.enqueue(undefined));
  }

  stall(): void {
    this.isStalled = true;
    this.client.pause();
    this.server.pause();
  }

  unstall(): void {
    this.isStalled = false;
    this.client.resume();
    this.server.resume();
    this.deliver();
  }

  mute(): void {
    this.isMute = true;
  }

  unmute(): void {
    this.isMute = false;
    this.deliver();
  }

  destroy(): void {
    clearTimeout(this.timer);
    this.client.destroy();
    this.server.destroy();
  }

  private enqueue(bytes: Buffer | undefined): void {
    if (this.client.destroyed || bytes?.length === 0) return;
    this.queue.push({ bytes, dueMs: performance.now() + this.delayMs() });
    this.deliver();
  }

  private deliver(): void {
    clearTimeout(this.timer);
    while (!this.isStalled && !(this.isMute && !this.isSubscriber) && this.queue.length > 0) {
      const [{ bytes, dueMs }] = this.queue;
      const leftMs = dueMs - performance.now();
      if (leftMs > 0) {
        this.timer = setTimeout(() => this.deliver(), Math.ceil(leftMs));
        return;
      }
      this.queue.shift();
      if (bytes === undefined) this.client.end();
      else this.client.write(bytes);
    }
  }
}

/** Takes the published messages out of what a server says on one connection. */
class MessageFilter {
  private chunks: Buffer[] = [];
  private size = 0;
  /** No frame is complete with fewer bytes than that. */
  private needed = 0;

  constructor(private readonly onDropped: () => void) {}

  /** Takes the next bytes and answers with the complete frames among all so far, without those of messages. */
  push(chunk: Buffer): Buffer {
    this.chunks.push(chunk);
    this.size += chunk.length;
    // Joins the chunks of a large reply once, not with each of them.
    if (this.size < this.needed) return Buffer.alloc(0);

    const bytes = Buffer.concat(this.chunks);
    const kept: Buffer[] = [];
    let start = 0;
    let end = frameEnd(bytes, start);
    while (end <= bytes.length) {
      if (isMessage(bytes, start)) this.onDropped();
      else kept.push(bytes.subarray(start, end));
      start = end;
      end = frameEnd(bytes, start);
    }
    this.chunks = [bytes.subarray(start)];
    this.size = bytes.length - start;
    this.needed = end - start;
    return Buffer.concat(kept);
  }
}

/** Where the frame ends that starts at `start`. Beyond the bytes when it is incomplete: it ends there at the earliest. */
function frameEnd(bytes: Buffer, start: number): number {
  const lineEnd = bytes.indexOf(CRLF, start);
  if (lineEnd === -1) return bytes.length + 1;
  const body = lineEnd + CRLF.length;
  const type = String.fromCharCode(bytes[start]);
  switch (type) {
    case '+': // simple string
    case '-': // simple error
    case ':': // integer
    case '_': // null
    case '#': // boolean
    case ',': // double
    case '(': // big number
      return body;
    case '$': // bulk string
    case '!': // bulk error
    case '=': // verbatim string
    case '*': // array
    case '~': // set
    case '>': // push
    case '%': // map
    case '|': // attribute, and what it belongs to
      break;
    default:
      throw new Error(`No type of RESP: ${JSON.stringify(type)}.`);
  }
  // A null of RESP2 has length -1. Lengths that are not known in advance are specified, but no server sends them.
  const length = Number(bytes.toString('latin1', start + 1, lineEnd));
  if (!Number.isInteger(length)) throw new Error(`No length of RESP: after ${JSON.stringify(type)}.`);
  if ('$!='.includes(type)) return length < 0 ? body : body + length + CRLF.length;
  const elements = type === '%' ? 2 * length : type === '|' ? 2 * length + 1 : length;
  let end = body;
  for (let element = 0; element < elements && end <= bytes.length; element += 1) end = frameEnd(bytes, end);
  return end;
}

/** Whether a complete frame is a push or an array that delivers a published message. */
function isMessage(bytes: Buffer, start: number): boolean {
  const head = bytes.toString('latin1', start, start + 32);
  const [, size, kind] = /^[>*](\d+)\r\n\$\d+\r\n([a-z]+)\r\n/.exec(head) ?? [];
  return kind !== undefined && MESSAGE_SIZES.get(kind) === Number(size);
}

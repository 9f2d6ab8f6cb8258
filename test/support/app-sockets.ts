import { io, type Socket } from 'socket.io-client';
import { WebSocket } from 'ws';
import type { SocketPlatform, TestApp } from './app.js';

/** What a gateway tells a client of an error. */
export interface WsFailure {
  status?: string;
  statusCode?: number;
  code?: string;
  message?: string;
  retryAfter?: number;
}

interface Message {
  readonly event: string;
  readonly data: unknown;
}

export interface Credentials {
  /** `handshake.auth`, of socket.io alone. */
  auth?: Record<string, unknown>;
  headers?: Record<string, string>;
}

/**
 * A client of a gateway, the same for both adapters. Handlers answer with `{ event, data: { id, … } }`, where `id` is
 * that of the message.
 */
export abstract class TestSocket {
  private readonly inbox: Message[] = [];
  private readonly readers: { matches(message: Message): boolean; resolve(message: Message): void }[] = [];
  private lastId = 0;

  abstract send(event: string, data: unknown): void;
  /** Leaves without saying goodbye. */
  abstract terminate(): void;
  abstract close(): Promise<void>;

  /** Sends and waits for the answer, or for an exception. */
  async request<T>(event: string, data: object = {}): Promise<T> {
    this.lastId += 1;
    const id = this.lastId;
    this.send(event, { ...data, id });
    const answer = await this.take(
      (message) => message.event === 'exception' || (message.data as { id?: number } | null)?.id === id,
    );
    if (answer.event === 'exception')
      throw Object.assign(new Error('exception'), { failure: answer.data as WsFailure });
    return answer.data as T;
  }

  /** Sends and resolves with the exception that comes of it. */
  async failure(event: string, data: object = {}): Promise<WsFailure> {
    this.send(event, data);
    return (await this.take((message) => message.event === 'exception')).data as WsFailure;
  }

  /** The next message of that event. */
  async next<T>(event: string): Promise<T> {
    return (await this.take((message) => message.event === event)).data as T;
  }

  protected received(event: string, data: unknown): void {
    const message = { event, data };
    const reader = this.readers.findIndex(({ matches }) => matches(message));
    if (reader < 0) this.inbox.push(message);
    else this.readers.splice(reader, 1)[0]?.resolve(message);
  }

  private take(matches: (message: Message) => boolean): Promise<Message> {
    const index = this.inbox.findIndex(matches);
    if (index >= 0) return Promise.resolve(this.inbox.splice(index, 1)[0] as Message);
    return new Promise((resolve) => this.readers.push({ matches, resolve }));
  }
}

export class IoTestSocket extends TestSocket {
  constructor(readonly socket: Socket) {
    super();
    socket.onAny((event: string, data: unknown) => this.received(event, data));
  }

  send(event: string, data: unknown): void {
    this.socket.emit(event, data);
  }

  terminate(): void {
    this.socket.io.engine.close();
  }

  async close(): Promise<void> {
    this.socket.disconnect();
  }
}

export class WsTestSocket extends TestSocket {
  constructor(readonly socket: WebSocket) {
    super();
    socket.on('message', (raw: Buffer) => {
      const { event, data } = JSON.parse(raw.toString()) as Message;
      this.received(event, data);
    });
  }

  send(event: string, data: unknown): void {
    this.socket.send(JSON.stringify({ event, data }));
  }

  terminate(): void {
    this.socket.terminate();
  }

  async close(): Promise<void> {
    this.socket.terminate();
  }
}

/** Connects to the gateway of `app`, as the client with that token unless `credentials` say otherwise. */
export function connect(
  app: TestApp,
  platform: SocketPlatform,
  token: string | undefined,
  credentials: Credentials = {},
): Promise<TestSocket> {
  return platform === 'ws'
    ? connectWs(app, {
        headers: { ...(token === undefined ? {} : { 'x-state-token': token }), ...credentials.headers },
      })
    : connectIo(app, { auth: token === undefined ? {} : { token }, ...credentials });
}

function connectIo(app: TestApp, { auth, headers }: Credentials): Promise<IoTestSocket> {
  const socket = io(app.url, {
    transports: ['websocket'],
    forceNew: true,
    reconnection: false,
    ...(auth === undefined ? {} : { auth }),
    ...(headers === undefined ? {} : { extraHeaders: headers }),
  });
  const client = new IoTestSocket(socket);
  return new Promise((resolve, reject) => {
    socket.once('connect', () => resolve(client));
    socket.once('connect_error', reject);
  });
}

function connectWs(app: TestApp, { headers }: Credentials): Promise<WsTestSocket> {
  const socket = new WebSocket(app.url.replace('http', 'ws'), { headers: headers ?? {} });
  const client = new WsTestSocket(socket);
  return new Promise((resolve, reject) => {
    socket.once('open', () => resolve(client));
    socket.once('error', reject);
  });
}

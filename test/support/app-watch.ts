import { Controller, Inject, Post, Sse } from '@nestjs/common';
import { SubscribeMessage, WebSocketGateway } from '@nestjs/websockets';
import { InjectState, StateIdent, StateManager, StateToken, toEvents, type StateChange } from 'nestjs-state';
import { defer, finalize, type Observable } from 'rxjs';
import { open } from './app-http.js';
import { CounterState } from './app-states.js';
import type { TestApp } from './app.js';

/** A change of a counter as clients get it. */
export interface ToldChange {
  state: { count: number };
  patches: { op: string; path: string; value?: unknown }[];
  version: number;
  reason: string;
}

/** How many clients watch, by ident. */
const watching = new Map<string, number>();

export const watchersOf = (ident: string): number => watching.get(ident) ?? 0;

/** The counter of `ident`, watched; counts who does. */
function watched(states: StateManager, ident: string): Observable<StateChange<CounterState>> {
  const add = (change: number) => watching.set(ident, watchersOf(ident) + change);
  return defer(() => {
    add(1);
    return states.watch(new StateToken(ident, CounterState));
  }).pipe(finalize(() => add(-1)));
}

@Controller()
export class WatchController {
  constructor(@Inject(StateManager) private readonly states: StateManager) {}

  @Post('increment')
  increment(@InjectState() counter: CounterState) {
    return { count: counter.increment() };
  }

  @Sse('stream')
  stream(@StateIdent() ident: string) {
    return watched(this.states, ident);
  }

  @Sse('increment-and-stream')
  incrementAndStream(@InjectState() counter: CounterState, @StateIdent() ident: string) {
    counter.increment();
    return watched(this.states, ident);
  }
}

@WebSocketGateway()
export class WatchGateway {
  constructor(@Inject(StateManager) private readonly states: StateManager) {}

  @SubscribeMessage('watch')
  watch(@StateIdent() ident: string) {
    return watched(this.states, ident).pipe(toEvents('counter'));
  }

  @SubscribeMessage('increment-and-watch')
  incrementAndWatch(@InjectState() counter: CounterState, @StateIdent() ident: string) {
    counter.increment();
    return watched(this.states, ident).pipe(toEvents('counter'));
  }
}

/** A client of an SSE stream of changes. */
export class EventStream {
  private readonly changes: ToldChange[] = [];
  private readonly readers: ((change: ToldChange) => void)[] = [];
  private readonly leaving = new AbortController();
  private rest = '';

  static async open(app: TestApp, path: string, token: string): Promise<EventStream> {
    const stream = new EventStream();
    const response = await open(app, path, { token, method: 'GET', signal: stream.leaving.signal });
    response.on('error', () => undefined);
    response.setEncoding('utf8').on('data', (chunk: string) => stream.read(chunk));
    return stream;
  }

  next(): Promise<ToldChange> {
    const change = this.changes.shift();
    return change === undefined
      ? new Promise((resolve) => this.readers.push(resolve))
      : Promise.resolve(change);
  }

  leave(): void {
    this.leaving.abort();
  }

  private read(chunk: string): void {
    const events = (this.rest + chunk).split('\n\n');
    this.rest = events.pop() ?? '';
    for (const event of events) {
      const data = /^data: (.*)$/m.exec(event)?.[1];
      if (data === undefined) continue;
      const change = JSON.parse(data) as ToldChange;
      const reader = this.readers.shift();
      if (reader === undefined) this.changes.push(change);
      else reader(change);
    }
  }
}

import { request, type IncomingHttpHeaders, type IncomingMessage } from 'node:http';
import { text } from 'node:stream/consumers';
import { setImmediate as nextLoopTurn } from 'node:timers/promises';
import { expect } from '@jest/globals';
import { LockTimeoutError, StateToken } from 'nestjs-state';
import type { TestApp } from './app.js';
import { CounterState } from './app-states.js';

export interface Call {
  token?: string;
  method?: 'GET' | 'POST';
  headers?: Record<string, string>;
  body?: unknown;
  signal?: AbortSignal;
}

export interface Answer<T = Record<string, unknown>> {
  status: number;
  body: T;
  headers: IncomingHttpHeaders;
}

/** One HTTP request whose answer is read as it comes. */
export function open(
  app: TestApp,
  path: string,
  { token, method = 'POST', headers, body, signal }: Call = {},
): Promise<IncomingMessage> {
  const content = body === undefined ? undefined : JSON.stringify(body);
  return new Promise((resolve, reject) => {
    const outgoing = request(`${app.url}${path}`, {
      method,
      agent: app.agent,
      headers: {
        ...(token === undefined ? {} : { 'x-state-token': token }),
        ...(content === undefined ? {} : { 'content-type': 'application/json' }),
        ...headers,
      },
      ...(signal === undefined ? {} : { signal }),
    });
    outgoing.once('response', resolve);
    outgoing.once('error', reject);
    outgoing.end(content);
  });
}

/** One HTTP request. The body of the answer is parsed when it is JSON. */
export async function call<T = Record<string, unknown>>(
  app: TestApp,
  path: string,
  options?: Call,
): Promise<Answer<T>> {
  const incoming = await open(app, path, options);
  const content = await text(incoming);
  const isJson = incoming.headers['content-type']?.includes('json') ?? false;
  return {
    status: incoming.statusCode ?? 0,
    body: (isJson && content !== '' ? JSON.parse(content) : content) as T,
    headers: incoming.headers,
  };
}

/** The committed count of `ident`. */
export async function countOf(app: TestApp, ident: string): Promise<number> {
  return (await app.states.getState(new StateToken(ident, CounterState))).count;
}

/** The lock of `ident` is free, and not one that is given back when its time is up: the next one is let in long before. */
export async function expectEntrySoon(app: TestApp, ident: string): Promise<void> {
  const turn = await app.states.openTurn(ident, { acquireTimeout: 5_000, label: 'the next one' });
  await turn.rollback();
}

/** No turn is open and nobody waits. A turn that no handler claimed is handed back by the end of the event-loop turn. */
export async function expectIdle(app: TestApp): Promise<void> {
  await nextLoopTurn();
  expect(app.stats()).toMatchObject({ openTurns: 0, waiting: 0 });
}

/** Somebody holds the lock of `ident`. */
export async function untilLocked(app: TestApp, ident: string): Promise<void> {
  for (;;) {
    try {
      const turn = await app.states.openTurn(ident, { acquireTimeout: 0 });
      await turn.rollback();
    } catch (error) {
      if (error instanceof LockTimeoutError) return;
      throw error;
    }
    await nextLoopTurn();
  }
}

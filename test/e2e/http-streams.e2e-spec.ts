import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { closedStreams, CommitController, gates, streams } from '../support/app-commit.controller.js';
import { call, countOf, expectIdle, open } from '../support/app-http.js';
import { inParallel, until } from '../support/app-gate.js';
import { HTTP_PLATFORMS, MANY, startApp, type TestApp } from '../support/app.js';

describe.each(HTTP_PLATFORMS)('The end of a turn that streams (%s)', (platform) => {
  let app: TestApp;

  beforeAll(async () => {
    gates.reset();
    streams.clear();
    closedStreams.clear();
    app = await startApp({
      platform,
      controllers: [CommitController],
      state: { lockWarningThreshold: '5s' },
    });
  });

  afterAll(() => app.close());

  it('commits when an Observable completes without a value', async () => {
    await inParallel(MANY, async (index) => {
      const token = `empty-${index}`;
      // What Nest makes of an answer without a value is Nest's: the turn changes nothing about it.
      const [{ status }, plain] = await Promise.all([
        call(app, '/empty', { token }),
        call(app, '/plain-empty', { token }),
      ]);
      expect(status).toBe(plain.status);
      expect(await countOf(app, token)).toBe(1);
    });
    await expectIdle(app);
  });

  it('is the first value of an Observable, which goes on without the lock', async () => {
    await inParallel(MANY, async (index) => {
      const token = `observable-${index}`;
      const answer = call(app, '/observable', { token });
      await gates.at(token).reached;
      expect((await call(app, '/increment', { token })).body).toEqual({ count: 2 });
      gates.at(token).open();
      expect((await answer).body).toEqual({ error: 'TypeError' });
      expect(await countOf(app, token)).toBe(2);
    });
    await expectIdle(app);
  });

  it('is the first event of an SSE stream, which goes on without the lock until its client leaves', async () => {
    await inParallel(MANY, async (index) => {
      const token = `sse-${index}`;
      const leaving = new AbortController();
      const opened = open(app, '/events', { token, method: 'GET', signal: leaving.signal });
      await gates.at(`first:${token}`).reached;
      const next = call(app, '/increment', { token });
      gates.at(`first:${token}`).open();
      const response = await opened;
      expect((await next).body).toEqual({ count: 2 });
      let received = '';
      response.setEncoding('utf8').on('data', (chunk: string) => (received += chunk));
      response.on('error', () => undefined);
      await until(() => received.includes('{"first":1}'), 'the first event');
      streams.get(token)?.next({ data: { later: 1 } });
      expect((await call(app, '/increment', { token })).body).toEqual({ count: 3 });
      await until(() => received.includes('{"later":1}'), 'the later event');
      leaving.abort();
      await until(() => closedStreams.has(token), 'the end of the stream');
    });
    await expectIdle(app);
  });

  it('comes when an SSE client leaves before the first event and the handler then emits one', async () => {
    await inParallel(MANY, async (index) => {
      const token = `sse-left-${index}`;
      const leaving = new AbortController();
      const opened = open(app, '/events', { token, method: 'GET', signal: leaving.signal });
      opened.then((response) => response.on('error', () => undefined)).catch(() => undefined);
      await gates.at(`first:${token}`).reached;
      leaving.abort();
      await opened.catch(() => undefined);
      gates.at(`first:${token}`).open();
      expect((await call(app, '/increment', { token })).body).toEqual({ count: 2 });
      await until(() => closedStreams.has(token), 'the end of the stream');
    });
    await expectIdle(app);
  });
});

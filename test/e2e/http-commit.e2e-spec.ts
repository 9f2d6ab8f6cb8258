import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { LockTimeoutError, StateToken } from 'nestjs-state';
import { attempts, CommitController, gates } from '../support/app-commit.controller.js';
import { call, countOf, expectEntrySoon, expectIdle, open } from '../support/app-http.js';
import { inParallel, until } from '../support/app-gate.js';
import { LooseState } from '../support/app-states.js';
import { HTTP_PLATFORMS, MANY, startApp, type TestApp } from '../support/app.js';

describe.each(HTTP_PLATFORMS)('The end of a turn (%s)', (platform) => {
  let app: TestApp;

  beforeAll(async () => {
    gates.reset();
    attempts.clear();
    app = await startApp({
      platform,
      controllers: [CommitController],
      state: { lockWarningThreshold: '5s' },
    });
  });

  afterAll(() => app.close());

  it('is before the first byte of the answer: whoever sees one reads the new value', async () => {
    await inParallel(MANY, async (index) => {
      const token = `first-byte-${index}`;
      for (let round = 1; round <= 6; round += 1) {
        const response = await open(app, round % 2 === 0 ? '/increment' : '/increment-large', { token });
        expect(await countOf(app, token)).toBe(round);
        response.resume();
      }
    });
    await expectIdle(app);
  });

  it('is over when the answer is handed to the socket', async () => {
    const writes = new Map<string, Promise<number>>();
    const server = app.nest.getHttpServer() as Server;
    const watch = ({ headers }: IncomingMessage, response: ServerResponse) => {
      const ident = headers['x-state-token'] as string;
      const { socket } = response;
      const write = socket?.write.bind(socket) as Socket['write'];
      Object.assign(socket as Socket, {
        write: (...args: Parameters<Socket['write']>) => {
          // The memory manager reads at once: this is what is committed now.
          if (!writes.has(ident)) writes.set(ident, countOf(app, ident));
          return write(...args);
        },
      });
    };
    server.prependListener('request', watch);
    await inParallel(MANY, (index) => call(app, '/increment', { token: `written-${index}` }));
    server.off('request', watch);
    expect(await Promise.all(writes.values())).toEqual(Array(MANY).fill(1));
    await expectIdle(app);
  });

  it('answers with an error and stores nothing of any state when the commit fails', async () => {
    await inParallel(MANY, async (index) => {
      const token = `spoil-${index}`;
      await call(app, '/increment', { token });
      expect((await call(app, '/spoil', { token })).status).toBe(500);
      expect(await countOf(app, token)).toBe(1);
      expect(await app.states.getState(new StateToken(token, LooseState))).toEqual({ value: 'fresh' });
      expect((await call(app, '/fail-commit-of-observable', { token })).status).toBe(500);
      await expectEntrySoon(app, token);
    });
    await expectIdle(app);
  });

  it('stores nothing when the handler throws', async () => {
    await inParallel(MANY, async (index) => {
      const token = `throw-${index}`;
      await call(app, '/increment', { token });
      expect((await call(app, '/throw', { token })).status).toBe(418);
      expect(await countOf(app, token)).toBe(1);
    });
    await expectIdle(app);
  });

  it('waits for the handler when its client has left, and then its commit stands', async () => {
    await inParallel(MANY, async (index) => {
      const token = `left-${index}`;
      const leaving = new AbortController();
      const leaver = call(app, '/hold', { token, signal: leaving.signal });
      await gates.at(token).reached;
      leaving.abort();
      await expect(leaver).rejects.toThrow();
      const next = call(app, '/increment', { token });
      await expect(app.states.openTurn(token, { acquireTimeout: 20 })).rejects.toThrow(LockTimeoutError);
      expect(await countOf(app, token)).toBe(0);
      gates.at(token).open();
      expect((await next).body).toEqual({ count: 3 });
    });
    await expectIdle(app);
  });

  it('waits for the handler when an outer timeout() has answered already, and then its commit stands', async () => {
    await inParallel(MANY, async (index) => {
      const token = `timeout-${index}`;
      expect((await call(app, '/timeout', { token })).status).toBe(408);
      expect(await countOf(app, token)).toBe(0);
      const next = call(app, '/increment', { token });
      await until(() => app.stats().waiting > 0, 'a waiter');
      gates.at(token).open();
      expect((await next).body).toEqual({ count: 3 });
    });
    await expectIdle(app);
  });

  it('comes once for each attempt of an outer retry(): failed ones leave nothing', async () => {
    await inParallel(MANY, async (index) => {
      const token = `retry-${index}`;
      expect((await call(app, '/retry', { token })).body).toEqual({ count: 1 });
      expect(attempts.get(token)).toBe(3);
      expect(await countOf(app, token)).toBe(1);
    });
    await expectIdle(app);
  });

  it('of a timed-out attempt comes before the next attempt begins', async () => {
    // One after the other: somebody else's waiter would be taken for the second attempt before the first has timed out.
    for (let index = 0; index < 5; index += 1) {
      const token = `timeout-and-retry-${index}`;
      const answer = call(app, '/timeout-and-retry', { token });
      await gates.at(token).reached;
      await until(() => app.stats().waiting > 0, 'the second attempt in the queue');
      gates.at(token).open();
      await answer;
      await expectEntrySoon(app, token);
      expect(await countOf(app, token)).toBe(2);
    }
    await expectIdle(app);
  });

  it('comes once, however often the interceptor is bound', async () => {
    await inParallel(MANY, async (index) => {
      expect((await call(app, '/bound-often', { token: `bound-${index}` })).body).toEqual({ count: 1 });
    });
    await expectIdle(app);
  });

  it('is lost with the lock after maxHold: the late handler gets an error, and what others committed stands', async () => {
    const impatient = await startApp({
      platform,
      controllers: [CommitController],
      state: { maxHold: 500, lockWarningThreshold: 200 },
    });
    try {
      await inParallel(MANY, async (index) => {
        const token = `late-${index}`;
        const late = call(impatient, '/hold', { token });
        await gates.at(token).reached;
        expect((await call(impatient, '/increment', { token })).body).toEqual({ count: 1 });
        gates.at(token).open();
        expect((await late).status).toBe(500);
        expect(await countOf(impatient, token)).toBe(1);
      });
      await expectIdle(impatient);
    } finally {
      await impatient.close();
    }
  });
});

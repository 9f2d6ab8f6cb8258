import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { ChainController, EndsController, gates, traces } from '../support/app-ends.controller.js';
import { call, countOf, expectIdle, open } from '../support/app-http.js';
import { inParallel, until } from '../support/app-gate.js';
import { CartState } from '../support/app-states.js';
import { HTTP_PLATFORMS, startApp, type TestApp } from '../support/app.js';
import { StateToken } from 'nestjs-state';

const MAX_HOLD_MS = 600;
const SOME = 10;

describe.each(HTTP_PLATFORMS)('The end of a handler (%s)', (platform) => {
  let app: TestApp;
  /** What nobody has caught: it would have ended the process. */
  const uncaught: unknown[] = [];
  const note = (error: unknown): void => void uncaught.push(error);

  beforeAll(async () => {
    process.on('unhandledRejection', note).on('uncaughtException', note);
    app = await startApp({
      platform,
      controllers: platform === 'express' ? [EndsController, ChainController] : [EndsController],
      state: { maxHold: MAX_HOLD_MS, lockExpiration: 500, lockWarningThreshold: 400 },
    });
  });

  beforeEach(() => {
    gates.reset();
    traces.reset();
    uncaught.length = 0;
  });

  afterEach(async () => {
    await expectIdle(app);
    await delay(10);
    expect(uncaught).toEqual([]);
  });

  afterAll(async () => {
    process.off('unhandledRejection', note).off('uncaughtException', note);
    await app.close();
  });

  /** Opens a stream and leaves it again once its handler has been subscribed to, and `before` has passed. */
  async function visitAndLeave(path: string, token: string, before?: () => Promise<unknown>): Promise<void> {
    const leaving = new AbortController();
    const opened = open(app, path, { method: 'GET', token, signal: leaving.signal });
    opened.then((response) => response.on('error', () => undefined)).catch(() => undefined);
    await until(() => traces.subscribed.has(token), 'the subscription');
    await before?.();
    leaving.abort();
  }

  function lossOfTheLock(): Promise<void> {
    return until(() => app.stats().openTurns === 0, 'the loss of the lock');
  }

  it.each(['/silent-ident', '/silent-readonly', '/silent-answer'])(
    'without a lock (%s) comes when its client leaves: a visitor of a quiet stream leaves nothing behind',
    async (path) => {
      await inParallel(SOME, (index) => visitAndLeave(path, `${path}-${index}`));
      await until(() => traces.subscribed.size === 0, 'the end of all of them');
    },
  );

  it('comes at once when its client leaves after the lock was lost', async () => {
    await visitAndLeave('/silent-locked', 'lost', lossOfTheLock);
    await until(() => traces.subscribed.size === 0, 'the end of the stream');
  });

  it('is not the end of the process when its teardown throws', async () => {
    await visitAndLeave('/bad-teardown', 'bad');
    await until(() => traces.subscribed.size === 0, 'the teardown, when the lock is lost');
  });

  it('never comes to one of whose states one cannot be found, and the other neither, a moment later', async () => {
    const answers = await inParallel(SOME, () => call(app, '/two-idents', { method: 'GET' }));
    for (const { status } of answers) expect(status).toBe(400);
  });

  it('is an event of the stream when a lock is refused after its headers have gone out', async () => {
    await inParallel(SOME, async (index) => {
      const token = `refused-${index}`;
      const turn = await app.states.openTurn(`taken:${token}`);
      const response: IncomingMessage = await open(app, '/refused-later', { method: 'GET', token });
      gates.at(token).open();
      let text = '';
      response.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
      await once(response, 'end');
      await turn.rollback();
      expect(text).toContain('event: error');
      expect(text).toContain('The state is busy.');
    });
  });

  it('may be followed by another run of the handler, in a turn of its own', async () => {
    await inParallel(SOME, async (index) => {
      const token = `again-${index}`;
      expect(await call(app, '/again', { token })).toMatchObject({ status: 201, body: { count: 1 } });
      expect(await countOf(app, token)).toBe(1);
      const reading = `again-readonly-${index}`;
      expect((await call(app, '/again-readonly', { token: reading })).body).toEqual({ count: 1 });
    });
  });

  it('finds the new ident of its client when an earlier run has given it one meanwhile', async () => {
    const answer = call(app, '/login-twice', { headers: { cookie: 'state_token=given-up' } });
    await until(() => app.stats().waiting === 1, 'the second run, which waits for the first');
    gates.at('given-up').open();
    expect(await answer).toMatchObject({ status: 201, body: { count: 2 } });
    expect(await countOf(app, 'given-up')).toBe(0);
  });

  it('closes the file of a handler that nobody listens to any more', async () => {
    const answer = call(app, '/file', { method: 'GET', token: 'file' });
    await gates.at('file').reached;
    expect((await answer).status).toBe(500);
    gates.at('file').open();
    await until(() => traces.files.get('file')?.destroyed === true, 'the end of the file');
  });

  it('shows what an exception holds of the state, as it was when it was thrown, and stores nothing', async () => {
    await inParallel(SOME, async (index) => {
      const token = `conflict-${index}`;
      const { status, body } = await call(app, '/conflict', { token });
      expect(status).toBe(409);
      const items = [{ sku: 'tea', amount: 1 }];
      expect(body).toEqual({ message: 'no', items, cart: { items } });
      expect((await app.states.getState(new StateToken(token, CartState))).items).toEqual([]);
    });
    expect((await call(app, '/throws-state', { token: 'thrown' })).status).toBe(500);
  });

  it('is not the end of the process when what it throws cannot even be looked at', async () => {
    const response = await open(app, '/throws-dead', { method: 'GET', token: 'dead' });
    response.resume();
    await once(response, 'end');
  });

  it('leaves a client its states when it could not be told of its new ident', async () => {
    await inParallel(SOME, async (index) => {
      const token = `stream-${index}`;
      await app.states.modifyState(new StateToken(token, CartState), (cart) => cart.add('tea'));
      const response = await open(app, '/login-stream', {
        method: 'GET',
        headers: { cookie: `state_token=${token}` },
      });
      gates.at(token).open();
      response.resume();
      await once(response, 'end');
      expect(response.headers['set-cookie']).toBeUndefined();
      expect((await app.states.getState(new StateToken(token, CartState))).items).toHaveLength(1);
    });
  });

  if (platform === 'express') {
    it('hands a request on to its next handler with the ident that was made for it', async () => {
      const { body, headers } = await call(app, '/next', { method: 'GET' });
      expect(body).toEqual({ count: 2 });
      expect(new Set(traces.idents).size).toBe(1);
      expect(headers['set-cookie']).toEqual([expect.stringContaining(traces.idents[0] as string)]);
    });
  }
});

import { afterEach, describe, expect, it } from '@jest/globals';
import { Controller, Get, Inject, Post } from '@nestjs/common';
import { HealthCheck, HealthCheckService, TerminusModule } from '@nestjs/terminus';
import {
  InjectState,
  InvalidStateOptionsError,
  StateHealthIndicator,
  StateIdent,
  StateManager,
  type StateHealth,
  type StateModuleOptions,
} from 'nestjs-state';
import { call } from '../support/app-http.js';
import { Gates, until } from '../support/app-gate.js';
import { CounterState } from '../support/app-states.js';
import { startApp, type TestApp } from '../support/app.js';
import { RedisProxy } from '../support/redis-proxy.js';
import { RedisServer } from '../support/redis-server.js';

let gates = new Gates();

@Controller()
class HealthController {
  constructor(
    @Inject(HealthCheckService) private readonly health: HealthCheckService,
    @Inject(StateHealthIndicator) private readonly states: StateHealthIndicator,
  ) {}

  @Get('health')
  @HealthCheck()
  check() {
    return this.health.check([
      () => this.states.check('states', { maxWait: 400, maxHold: 800, timeout: '150ms' }),
    ]);
  }
}

@Controller()
class CounterController {
  @Post('hold')
  async hold(@InjectState() counter: CounterState, @StateIdent() ident: string) {
    await gates.at(ident).pass();
    return { count: counter.increment() };
  }

  @Post('increment')
  increment(@InjectState() counter: CounterState) {
    return { count: counter.increment() };
  }
}

let app: TestApp;

async function start(state: StateModuleOptions): Promise<void> {
  gates = new Gates();
  app = await startApp({
    imports: [TerminusModule],
    controllers: [HealthController, CounterController],
    state,
  });
}

async function healthOf(url = app.url): Promise<{ status: number; states: StateHealth; text: string }> {
  const response = await fetch(`${url}/health`);
  const text = await response.text();
  const { details } = JSON.parse(text) as { details: { states: StateHealth } };
  return { status: response.status, states: details.states, text };
}

afterEach(() => app.close());

describe('StateHealthIndicator', () => {
  it('is up with its figures where nothing is wrong', async () => {
    await start({ mode: 'memory' });
    await call(app, '/increment', { token: 'somebody' });
    const { status, states } = await healthOf();
    expect(status).toBe(200);
    expect(states).toStrictEqual({
      status: 'up',
      mode: 'memory',
      openTurns: 0,
      waiting: 0,
      states: 1,
      longestHoldMs: 0,
      oldestWaitMs: 0,
      storeMs: expect.any(Number),
    });
  });

  it('is down while a lock is held or waited for too long, names the handlers and no ident, and comes back', async () => {
    await start({ mode: 'memory' });
    const ident = 'a-very-secret-ident';
    const held = call(app, '/hold', { token: ident });
    await gates.at(ident).reached;
    const waits = call(app, '/increment', { token: ident });
    await until(() => app.stats().waiting === 1, 'a waiter');
    expect((await healthOf()).status).toBe(200);
    await new Promise((resolve) => setTimeout(resolve, 1_000));

    const { status, states, text } = await healthOf();
    expect(status).toBe(503);
    expect(states).toMatchObject({
      status: 'down',
      openTurns: 1,
      waiting: 1,
      longestHold: 'CounterController.hold',
      oldestWait: 'CounterController.increment',
    });
    expect(states.longestHoldMs).toBeGreaterThanOrEqual(states.oldestWaitMs);
    expect(states.message).toMatch(
      /^CounterController\.hold has held its lock for \d+ ms, more than 800 ms\. CounterController\.increment has waited for its lock for \d+ ms, more than 400 ms\.$/,
    );
    expect(text).not.toContain(ident);

    gates.at(ident).open();
    await Promise.all([held, waits]);
    expect((await healthOf()).status).toBe(200);
  });

  it('judges no times when it is given none, and refuses what is none', async () => {
    await start({ mode: 'memory' });
    const indicator = app.nest.get(StateHealthIndicator);
    await using turn = await app.nest.get(StateManager).openTurn('somebody', { label: 'slow' });
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(await indicator.check('states')).toMatchObject({ states: { status: 'up', longestHold: 'slow' } });
    await expect(indicator.check('states', { maxWait: 'soon' })).rejects.toThrow(InvalidStateOptionsError);
    await turn.rollback();
  });

  it('is down after shutdown', async () => {
    await start({ mode: 'memory' });
    const indicator = app.nest.get(StateHealthIndicator);
    await app.close();
    const { states } = await indicator.check('states');
    expect(states).toMatchObject({ status: 'down', message: expect.stringContaining('closed') });
  });

  it('is down in time while Redis is silent, and up when it answers again', async () => {
    await using server = await RedisServer.start();
    await using proxy = await RedisProxy.start(server.port);
    await start({ mode: 'redis', redis: { url: proxy.url, commandTimeout: '2s' } });
    const upByMs = performance.now() + 5_000;
    let up = await healthOf();
    // A busy machine may take too long for the first answer.
    for (; up.status !== 200; up = await healthOf()) expect(performance.now()).toBeLessThan(upByMs);
    expect(up.states.mode).toBe('redis');
    expect(up.states.storeMs).toBeLessThan(150);
    // No timer can wait for so long: it would be over at once.
    proxy.delayMs = 30;
    const patient = await app.nest.get(StateHealthIndicator).check('states', { timeout: '60d' });
    expect(patient).toMatchObject({ states: { status: 'up' } });
    proxy.delayMs = 0;

    proxy.stall();
    const startMs = performance.now();
    const { status, states } = await healthOf();
    expect(status).toBe(503);
    expect(states).toMatchObject({ status: 'down', message: 'The store did not answer within 150 ms.' });
    expect(states).not.toHaveProperty('storeMs');
    expect(performance.now() - startMs).toBeLessThan(1_000);

    proxy.unstall();
    const endMs = performance.now() + 5_000;
    while ((await healthOf()).status !== 200) expect(performance.now()).toBeLessThan(endMs);
    await app.close();
  });
});

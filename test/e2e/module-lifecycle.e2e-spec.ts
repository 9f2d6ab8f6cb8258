import { afterEach, describe, expect, it } from '@jest/globals';
import { Controller, Get, Injectable, Post } from '@nestjs/common';
import { Interval, ScheduleModule, SchedulerRegistry } from '@nestjs/schedule';
import { InjectState, StateIdent, StateManagerClosedError, StateToken } from 'nestjs-state';
import { runToExit } from '../support/app-process.js';
import { call } from '../support/app-http.js';
import { Gates, inParallel, until } from '../support/app-gate.js';
import { CounterState } from '../support/app-states.js';
import { HTTP_PLATFORMS, MANY, startApp, type TestApp } from '../support/app.js';

const EXPIRATION_TIMER = 'nestjs-state:expiration';
const TICK_MS = 20;

let gates = new Gates();

@Controller()
class CounterController {
  @Post('increment')
  increment(@InjectState() counter: CounterState) {
    return { count: counter.increment() };
  }

  @Post('hold')
  async hold(@InjectState() counter: CounterState, @StateIdent() ident: string) {
    await gates.at(ident).pass();
    return { count: counter.increment() };
  }

  @Get('read')
  read(@InjectState({ readonly: true }) counter: CounterState) {
    return counter;
  }
}

@Injectable()
class Ticker {
  ticks = 0;
  readonly startedAtMs = performance.now();

  @Interval('ticker', TICK_MS)
  tick(): void {
    this.ticks += 1;
  }
}

describe.each(HTTP_PLATFORMS)('With a ScheduleModule of the application (%s)', (platform) => {
  let app: TestApp;

  afterEach(() => app.close());

  it('its intervals tick once, and its registry shows the expiration while states are stored', async () => {
    app = await startApp({
      platform,
      imports: [ScheduleModule.forRoot()],
      controllers: [CounterController],
      providers: [Ticker],
      state: { expiration: '1h' },
    });
    const registry = app.nest.get(SchedulerRegistry);
    const ticker = app.nest.get(Ticker);
    expect(registry.getIntervals()).toEqual(['ticker']);
    expect(registry.getTimeouts()).toEqual([]);

    await inParallel(MANY, (index) => call(app, '/increment', { token: `ident-${index}` }));
    expect(registry.getTimeouts()).toEqual([EXPIRATION_TIMER]);

    await until(() => ticker.ticks >= 10, 'ten ticks');
    // Twice the ticks would need half of the time.
    expect(performance.now() - ticker.startedAtMs).toBeGreaterThan(10 * TICK_MS * 0.8);

    for (let index = 0; index < MANY; index += 1) await app.states.deleteState(`ident-${index}`);
    expect(registry.getTimeouts()).toEqual([]);
  });

  it('states that expired leave no timer in its registry', async () => {
    app = await startApp({
      platform,
      imports: [ScheduleModule.forRoot()],
      controllers: [CounterController],
      state: { expiration: 30 },
    });
    const registry = app.nest.get(SchedulerRegistry);
    await inParallel(MANY, (index) => call(app, '/increment', { token: `ident-${index}` }));
    await until(() => app.stats().states === 0, 'the end of all states');
    expect(registry.getTimeouts()).toEqual([]);
  });
});

describe.each(HTTP_PLATFORMS)('Closing the application (%s)', (platform) => {
  it('waits for the turns that are open, and lets nobody in any more', async () => {
    gates = new Gates();
    const app = await startApp({ platform, controllers: [CounterController] });
    const tokens = Array.from({ length: MANY }, (_, index) => `open-${index}`);
    const held = tokens.map((token) => call(app, '/hold', { token }));
    await Promise.all(tokens.map((token) => gates.at(token).reached));
    const waiting = tokens.map((token) => call(app, '/increment', { token }));
    await until(() => app.stats().waiting === MANY, 'the waiters');

    const closing = app.nest.close();
    for (const { status, headers, body } of await Promise.all(waiting)) {
      expect([status, headers['retry-after']]).toEqual([503, '1']);
      expect(body).toMatchObject({ code: 'STATE_MANAGER_CLOSED' });
    }
    let isClosed = false;
    void closing.then(() => (isClosed = true));
    expect(app.stats().openTurns).toBe(MANY);
    expect(isClosed).toBe(false);

    for (const token of tokens) gates.at(token).open();
    for (const { status, body } of await Promise.all(held)) {
      expect([status, body]).toEqual([201, { count: 1 }]);
    }
    app.agent.destroy();
    await closing;
    expect(app.stats()).toMatchObject({ openTurns: 0, waiting: 0 });
    await expect(app.states.getState(new StateToken('open-0', CounterState))).rejects.toThrow(
      StateManagerClosedError,
    );
    await expect(app.states.openTurn('open-0')).rejects.toThrow(StateManagerClosedError);
  });

  it('gives up on a turn that never ends after drainTimeout, and stores nothing of it', async () => {
    gates = new Gates();
    const app = await startApp({ platform, controllers: [CounterController], state: { drainTimeout: 50 } });
    const held = call(app, '/hold', { token: 'stuck' });
    await gates.at('stuck').reached;
    const closing = app.nest.close();
    await until(() => app.stats().openTurns === 0, 'the end of the turn');
    gates.at('stuck').open();
    expect((await held).status).toBe(503);
    app.agent.destroy();
    await closing;
  });

  it('leaves nothing that keeps the process alive', async () => {
    const { code, output } = await runToExit('app-exit.fixture.ts', [platform]);
    expect(output).toBe('answered {"count":1}\nclosed\n');
    expect(code).toBe(0);
  });
});

describe('A script without a server', () => {
  it('does not end under a caller who waits for a lock, nor while it is being closed', async () => {
    const { code, output } = await runToExit('app-script.fixture.ts', []);
    const [outcomes, ...rest] = output.split('\n');
    // Two callers wait for each other: one of them, or both, are told.
    expect(['STATE_LOCK_TIMEOUT STATE_LOCK_TIMEOUT', 'STATE_LOCK_TIMEOUT stored']).toContain(outcomes);
    expect(rest.join('\n')).toContain('closed without the open turn');
    expect(code).toBe(0);
  });
});

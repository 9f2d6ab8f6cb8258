import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { context, trace } from '@opentelemetry/api';
import type { ReadableSpan } from '@opentelemetry/sdk-trace-base';
import {
  LockExpiredError,
  LockTimeoutError,
  StateToken,
  type StateManager,
  type StateStats,
} from 'nestjs-state';
import { StateTelemetry } from '../../../lib/telemetry/state-telemetry.js';
import { failureOf, newIdent, until, untilWaiting } from '../../conformance/harness.js';
import { CartState, CounterState } from '../../conformance/states.js';
import { FakeClock } from '../../support/fake-clock.js';
import { RecordedLogs } from '../../support/manager-logs.js';
import { openMemoryManager } from '../../support/manager-memory.js';
import { openRedisManager } from '../../support/manager-redis.js';
import { Sdk } from '../../support/otel-sdk.js';
import { RedisServer } from '../../support/redis-server.js';

const idle = (): StateStats => ({ mode: 'memory', openTurns: 0, waiting: 0 });

function fail(): never {
  throw new Error('broken');
}

const durationMs = ({ duration: [seconds, nanos] }: ReadableSpan): number => seconds * 1_000 + nanos / 1e6;

/** Turns with every outcome: 3 commits (one unchanged), 2 rollbacks, 1 wait that was given up. */
async function runTurns(manager: StateManager, token: StateToken<CounterState>): Promise<void> {
  await manager.modifyState(token, (counter) => counter.increment(), { label: 'Counters.add' });
  await manager.modifyState(token, () => undefined, { label: 'Counters.look' });
  await manager.setState(token.withClass(CartState), { items: [], notes: [], total: 1 });
  await failureOf(
    manager.modifyState(
      token,
      () => {
        throw new Error(`not for ${token.ident}`);
      },
      { label: 'Counters.add' },
    ),
  );
  const turn = await manager.openTurn(token.ident, { label: 'Counters.hold' });
  const late = await failureOf(manager.openTurn(token.ident, { label: 'Counters.late', acquireTimeout: 0 }));
  expect(late).toBeInstanceOf(LockTimeoutError);
  await turn.rollback();
}

/** A turn over two idents that is committed, and one that is not. */
async function runSeveral(manager: StateManager): Promise<void> {
  const tokens = [
    new StateToken(newIdent(), CounterState),
    new StateToken(newIdent(), CounterState),
  ] as const;
  await manager.modifyStates(tokens, (giver, taker) => {
    giver.increment();
    taker.increment();
  });
  await failureOf(manager.modifyStates(tokens, fail));
}

beforeAll(() => {
  RecordedLogs.start();
});

describe('Telemetry of the memory manager', () => {
  it('adds up to what was done', async () => {
    await using sdk = new Sdk();
    sdk.register();
    const clock = new FakeClock();
    const manager = await openMemoryManager(
      { expiration: '1h', maxHold: '5s', memory: { maxStates: 3 } },
      clock,
    );
    const token = new StateToken(newIdent(), CounterState);
    const running = runTurns(manager, token);
    await clock.advance(0);
    await running;

    // One that waits for 2 s and holds for 3 s, behind one that holds for 2 s.
    const first = await manager.openTurn(token.ident, { label: 'Counters.hold' });
    const waiting = manager.openTurn(token.ident, { label: 'Counters.waits' });
    await untilWaiting(manager, 1);
    expect(await sdk.figures()).toMatchObject({
      'nestjs_state.states': 2,
      'nestjs_state.turns.open': 1,
      'nestjs_state.waiters': 1,
    });
    await clock.advance(2_000);
    await first.rollback();
    const second = await waiting;
    await clock.advance(3_000);
    await second.commit();

    // One that is lost.
    const lost = await manager.openTurn(token.ident, { label: 'Counters.lost' });
    await lost.state(CounterState);
    await clock.advance(5_000);
    expect(await failureOf(lost.commit())).toBeInstanceOf(LockExpiredError);

    // Two states of the longest idle ident make room for two others, which expire.
    for (const ident of [newIdent(), newIdent()])
      await manager.setState(new StateToken(ident, CounterState), new CounterState());
    expect(manager.stats().states).toBe(2);
    await clock.advance(3_600_000);

    expect(await sdk.figures()).toEqual({
      'nestjs_state.commits': 6,
      'nestjs_state.rollbacks': 3,
      'nestjs_state.locks.lost': 1,
      'nestjs_state.evictions': 2,
      'nestjs_state.expirations': 2,
      'nestjs_state.lock.wait.count': 11,
      'nestjs_state.lock.wait.sum': 2,
      'nestjs_state.lock.hold.count': 10,
      'nestjs_state.lock.hold.sum': 10,
      'nestjs_state.states': 0,
      'nestjs_state.turns.open': 0,
      'nestjs_state.waiters': 0,
    });
    expect(await sdk.figures('nestjs_state.state')).toMatchObject({
      'nestjs_state.evictions counter': 1,
      'nestjs_state.evictions cart': 1,
      'nestjs_state.expirations counter': 2,
    });
    expect(await sdk.figures('nestjs_state.handler')).toMatchObject({
      'nestjs_state.commits Counters.add': 1,
      'nestjs_state.rollbacks Counters.add': 1,
      'nestjs_state.commits counter (setState)': 2,
      'nestjs_state.lock.wait.sum Counters.waits': 2,
      'nestjs_state.lock.hold.sum Counters.hold': 2,
    });
    expect(await sdk.figures('error.type')).toMatchObject({
      'nestjs_state.lock.wait.count STATE_LOCK_TIMEOUT': 1,
    });
    expect(sdk.outcomes()).toEqual([
      'state Counters.add: committed',
      'state Counters.look: committed',
      'state cart (setState): committed',
      'state Counters.add: rolled-back',
      'state Counters.late: refused',
      'state Counters.hold: rolled-back',
      'state Counters.hold: rolled-back',
      'state Counters.waits: committed',
      'state Counters.lost: lost',
      'state counter (setState): committed',
      'state counter (setState): committed',
    ]);
    const waits = sdk.spans.getFinishedSpans().find(({ name }) => name === 'state Counters.waits');
    expect(waits && durationMs(waits)).toBeCloseTo(5_000, 1);
    expect(waits?.attributes).toEqual({
      'nestjs_state.mode': 'memory',
      'nestjs_state.handler': 'Counters.waits',
      'nestjs_state.states': [],
      'nestjs_state.outcome': 'committed',
      'nestjs_state.lock.wait': 2,
      'nestjs_state.lock.hold': 3,
    });
    await manager.onModuleDestroy();
  });

  it('puts the span of a turn into that of its request, also when a timer ends it', async () => {
    await using sdk = new Sdk();
    sdk.register();
    const clock = new FakeClock();
    const manager = await openMemoryManager({ expiration: '1h', maxHold: '5s' }, clock);
    const token = new StateToken(newIdent(), CounterState);
    const request = trace.getTracer('test').startSpan('request');
    await context.with(trace.setSpan(context.active(), request), async () => {
      await manager.modifyState(token, async (counter) => {
        await Promise.resolve();
        counter.increment();
      });
      await manager.openTurn(token.ident, { label: 'lost' });
    });
    await clock.advance(5_000);
    expect(
      sdk.spans
        .getFinishedSpans()
        .map(({ name, parentSpanContext, attributes, status }) => [
          name,
          parentSpanContext?.spanId,
          attributes['nestjs_state.states'],
          status.code,
        ]),
    ).toEqual([
      ['state counter', request.spanContext().spanId, ['counter'], 0],
      ['state lost', request.spanContext().spanId, [], 2],
    ]);
    await manager.onModuleDestroy();
  });

  it('counts a turn over several idents once for each, all of them as they end', async () => {
    await using sdk = new Sdk();
    sdk.register();
    const manager = await openMemoryManager();
    await runSeveral(manager);
    expect(await sdk.figures()).toMatchObject({ 'nestjs_state.commits': 2, 'nestjs_state.rollbacks': 2 });
    await manager.onModuleDestroy();
  });

  it('asks nobody for figures after shutdown', async () => {
    await using sdk = new Sdk();
    sdk.register();
    let asked = 0;
    const telemetry = await StateTelemetry.open('memory', () => {
      asked += 1;
      return idle();
    });
    await sdk.figures();
    expect(asked).toBe(3);
    telemetry?.stop();
    await sdk.figures();
    expect(asked).toBe(3);
  });

  it('shows no ident', async () => {
    await using sdk = new Sdk();
    sdk.register();
    const manager = await openMemoryManager({ acquireTimeout: 0 });
    const token = new StateToken(newIdent(), CounterState);
    await runTurns(manager, token);
    await manager.deleteState(token.ident);
    const told = JSON.stringify([
      await sdk.figures(),
      await sdk.figures('nestjs_state.handler'),
      sdk.spans
        .getFinishedSpans()
        .map(({ name, attributes, events, status }) => [name, attributes, events, status]),
    ]);
    expect(told).toContain('Counters.late');
    expect(told).not.toContain(token.ident);
    await manager.onModuleDestroy();
  });

  it('keeps an SDK that throws away from turns', async () => {
    await using sdk = new Sdk();
    sdk.register();
    const manager = await openMemoryManager();
    context.disable();
    context.setGlobalContextManager({
      active: fail,
      with: fail,
      bind: fail,
      enable: fail,
      disable: fail as never,
    });
    const token = new StateToken(newIdent(), CounterState);
    await manager.modifyState(token, (counter) => counter.increment());
    await manager.modifyState(token, (counter) => counter.increment());
    expect((await manager.getState(token)).count).toBe(2);
    expect(manager.stats().openTurns).toBe(0);
    Reflect.deleteProperty(globalThis, Symbol.for('opentelemetry.js.api.1'));
    await manager.onModuleDestroy();
  });

  it('is not there without an SDK, and not when it is not wanted', async () => {
    expect(await StateTelemetry.open('memory', idle)).toBeUndefined();
    await using sdk = new Sdk();
    sdk.register();
    expect(await StateTelemetry.open('memory', idle)).toBeInstanceOf(StateTelemetry);
    const manager = await openMemoryManager({ telemetry: false });
    await runTurns(manager, new StateToken(newIdent(), CounterState));
    expect(sdk.outcomes()).toEqual([]);
    await manager.onModuleDestroy();
  });
});

describe('Telemetry of the redis manager', () => {
  let server: RedisServer;
  let manager: Awaited<ReturnType<typeof openRedisManager>> | undefined;

  beforeAll(async () => {
    server = await RedisServer.start();
  });
  afterEach(async () => {
    await manager?.onModuleDestroy();
  });
  afterAll(() => server[Symbol.asyncDispose]());

  it('counts a turn over several idents once for each, all of them as they end', async () => {
    await using sdk = new Sdk();
    sdk.register();
    manager = await openRedisManager({ redis: { url: server.url } });
    await runSeveral(manager);
    expect(await sdk.figures()).toMatchObject({ 'nestjs_state.commits': 2, 'nestjs_state.rollbacks': 2 });
  });

  it('adds up to what was done, and counts commits when they are acknowledged', async () => {
    await using sdk = new Sdk();
    sdk.register();
    manager = await openRedisManager({ expiration: 300, redis: { url: server.url } });
    const token = new StateToken(newIdent(), CounterState);
    await runTurns(manager, token);
    // The lock goes, as an evicted one does: a commit that is under way fails.
    const lost = manager.modifyState(
      token,
      async (counter) => {
        counter.increment();
        await server.flush();
      },
      { label: 'Counters.lost' },
    );
    expect(await failureOf(lost)).toBeInstanceOf(LockExpiredError);
    await manager.modifyState(token, (counter) => counter.increment(), { label: 'Counters.again' });
    await until(() => manager?.stats().openTurns === 0, 'no turn open');
    const idleMs = performance.now();
    for (;;) {
      const { 'nestjs_state.expirations': expired } = await sdk.figures();
      if (expired !== undefined || performance.now() - idleMs > 10_000) break;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }

    const {
      'nestjs_state.lock.wait.sum': _waited,
      'nestjs_state.lock.hold.sum': held,
      ...figures
    } = await sdk.figures();
    expect(figures).toEqual({
      'nestjs_state.commits': 4,
      'nestjs_state.rollbacks': 2,
      'nestjs_state.locks.lost': 1,
      'nestjs_state.expirations': 1,
      'nestjs_state.lock.wait.count': 8,
      'nestjs_state.lock.hold.count': 7,
      'nestjs_state.turns.open': 0,
      'nestjs_state.waiters': 0,
    });
    expect(held).toBeGreaterThan(0);
    expect(sdk.outcomes().toSorted()).toEqual([
      'state Counters.add: committed',
      'state Counters.add: rolled-back',
      'state Counters.again: committed',
      'state Counters.hold: rolled-back',
      'state Counters.late: refused',
      'state Counters.look: committed',
      'state Counters.lost: lost',
      'state cart (setState): committed',
    ]);
  });
});

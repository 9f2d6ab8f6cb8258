import { setTimeout as delay } from 'node:timers/promises';
import { Logger } from '@nestjs/common';
import { describe, expect, it } from '@jest/globals';
import { StateToken, type StateModuleOptions } from 'nestjs-state';
import { failureOf, newIdent, type OpenManager } from '../conformance/harness.js';
import { CartState, CounterState } from '../conformance/states.js';
import { TestRedis } from '../support/test-redis.js';

const MANAGERS = 3;
const TASKS = 6;

const store = TestRedis.forFile();

type Counted = Map<string, number>;

/** What a logger does whose worker is gone. */
function hasExited(): never {
  throw new Error('The worker has exited.');
}

const increment = (counter: CounterState): void => counter.increment();

/** One turn as users take them: short, long, given up while it waits, over several idents, or one that fails. */
async function takeTurn(manager: OpenManager, idents: readonly string[], counted: Counted): Promise<void> {
  const ident = anyOf(idents);
  const token = new StateToken(ident, CounterState);
  const kind = Math.floor(Math.random() * 6);
  if (kind === 0) {
    const waiting = AbortSignal.timeout(Math.ceil(Math.random() * 5));
    await manager.modifyState(token, increment, { signal: waiting });
  } else if (kind === 1) {
    await manager.modifyState(token, increment, { acquireTimeout: Math.floor(Math.random() * 4) });
  } else if (kind === 2) {
    const other = new StateToken(anyOf(idents), CartState);
    await manager.modifyStates([token, other], increment);
  } else if (kind === 3) {
    await manager.modifyState(token, async (counter) => {
      await delay(Math.random() * 4);
      increment(counter);
    });
  } else if (kind === 4) {
    await manager.modifyState(token, () => Promise.reject(new Error('on purpose')));
  } else {
    await manager.modifyState(token, increment);
  }
  counted.set(ident, (counted.get(ident) ?? 0) + 1);
}

const anyOf = (idents: readonly string[]): string =>
  idents[Math.floor(Math.random() * idents.length)] as string;

/** Takes turns, one after the other, until the manager is closed. */
async function keepBusy(manager: OpenManager, idents: readonly string[], counted: Counted): Promise<void> {
  for (;;) {
    try {
      await takeTurn(manager, idents, counted);
    } catch (error) {
      if ((error as { code?: string }).code === 'STATE_MANAGER_CLOSED') return;
    }
    // Some come back at once, some take their time.
    if (Math.random() < 0.3) await delay(Math.random() * 2);
  }
}

describe.each<[string, StateModuleOptions]>([
  ['', {}],
  [' under leaseHold', { redis: { leaseHold: 50 } }],
])('managers that are closed while everybody wants the same locks%s', (_, options) => {
  it('leave no lock and no place on a wait list behind, lose nothing, and keep nobody waiting', async () => {
    const waitsMs: number[] = [];
    for (let round = 0; round < 14; round += 1) {
      const idents = [newIdent(), newIdent()];
      const counted: Counted = new Map();
      const open = await Promise.all(
        Array.from({ length: MANAGERS }, () => store.open({ lockExpiration: '20s', ...options })),
      );
      const tasks = open.flatMap((manager) =>
        Array.from({ length: TASKS }, () => keepBusy(manager, idents, counted)),
      );
      const last = open.pop() as OpenManager;
      for (const manager of open) {
        await delay(5 + Math.random() * 20);
        await manager.onModuleDestroy();
        const startMs = performance.now();
        await Promise.all(
          idents.map((ident) => last.modifyState(new StateToken(ident, CartState), () => undefined)),
        );
        waitsMs.push(performance.now() - startMs);
      }
      await delay(Math.random() * 10);
      await last.onModuleDestroy();
      await Promise.all(tasks);

      expect(await store.lockKeys()).toStrictEqual([]);
      const reader = await store.open(options);
      for (const ident of idents)
        expect((await reader.getState(new StateToken(ident, CounterState))).count).toBe(counted.get(ident));
      await reader.onModuleDestroy();
    }
    // A lock that had gone to who has closed would come back with its lease; one whose message was lost, after a second. A
    // busy machine may take as long as that, now and then.
    expect(Math.max(...waitsMs)).toBeLessThan(5_000);
    expect(waitsMs.filter((ms) => ms > 800).length).toBeLessThan(3);
  }, 120_000);
});

describe('a manager that is closed', () => {
  it('leaves no lock behind that Redis grants when nobody waits any longer', async () => {
    const proxy = await store.startProxy();
    const manager = await store.open({ drainTimeout: 0, redis: { url: proxy.url } });
    const token = new StateToken(newIdent(), CounterState);
    await manager.modifyState(token, increment);
    await delay(20);
    proxy.delayMs = 50;
    const late = failureOf(manager.modifyState(token, increment));
    await delay(5);
    await manager.onModuleDestroy();

    expect(await late).toMatchObject({ code: 'STATE_MANAGER_CLOSED' });
    expect(await store.lockKeys()).toStrictEqual([]);
  });

  it('frees every lock and closes its connections, also when the logger throws', async () => {
    const manager = await store.open({ drainTimeout: 100, lockWarningThreshold: 50 });
    for (let turn = 0; turn < 3; turn += 1) await manager.openTurn(newIdent());
    Logger.overrideLogger({ log: hasExited, warn: hasExited, error: hasExited });
    try {
      await manager.onModuleDestroy();
    } finally {
      Logger.overrideLogger(false);
    }

    expect(await store.lockKeys()).toStrictEqual([]);
    expect(await failureOf(manager.count())).toMatchObject({ code: 'STATE_MANAGER_CLOSED' });
  });
});

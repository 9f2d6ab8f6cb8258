import { SchedulerRegistry } from '@nestjs/schedule';
import { beforeEach, describe, expect, it } from '@jest/globals';
import { State, StateToken, type StateEvent } from 'nestjs-state';
import { hashIdent } from '../../../../lib/internal/ident.js';
import { EXPIRATION_TIMER } from '../../../../lib/managers/local/local-state.manager.js';
import { FakeClock } from '../../../support/fake-clock.js';
import { RecordedLogs } from '../../../support/manager-logs.js';
import { openMemoryManager } from '../../../support/manager-memory.js';

@State('counter')
class CounterState {
  count = 0;
}

@State('other')
class OtherState {
  text = '';
}

const tokenOf = (ident: string): StateToken<CounterState> => new StateToken(ident, CounterState);

const openTimed = async () => {
  const clock = new FakeClock();
  const registry = new SchedulerRegistry();
  const manager = await openMemoryManager({ expiration: 1_000, maxHold: 500 }, clock, registry);
  const touch = (ident: string) =>
    manager.modifyState(tokenOf(ident), (state) => {
      state.count += 1;
    });
  return { clock, registry, manager, touch };
};

const openLimited = async (maxStates: number) => {
  const clock = new FakeClock();
  const manager = await openMemoryManager({ memory: { maxStates } }, clock);
  const evicted: string[] = [];
  manager.events$.subscribe((event: StateEvent) => {
    if (event.type === 'evicted') evicted.push(event.identHash);
  });
  const write = async (...idents: string[]): Promise<void> => {
    for (const ident of idents) {
      await clock.advance(1);
      await manager.modifyState(tokenOf(ident), (state) => void (state.count += 1));
    }
  };
  return { clock, manager, evicted, write };
};

describe('MemoryStateManager', () => {
  let logs: RecordedLogs;
  beforeEach(() => {
    logs = RecordedLogs.start();
  });

  describe('timers', () => {
    it('an empty manager has none', async () => {
      const { clock, registry } = await openTimed();
      expect(clock.pendingTimers).toBe(0);
      expect(registry.getTimeouts()).toStrictEqual([]);
    });

    it('the sleeping worker shows itself in the SchedulerRegistry, and is gone after the last expiry', async () => {
      const { clock, registry, touch } = await openTimed();
      await touch('a');
      expect(registry.getTimeouts()).toStrictEqual([EXPIRATION_TIMER]);
      expect(EXPIRATION_TIMER).toBe('nestjs-state:expiration');
      await clock.advance(400);
      await touch('b');
      await clock.advance(700);
      expect(registry.getTimeouts()).toStrictEqual([EXPIRATION_TIMER]);
      await clock.advance(400);

      expect(registry.getTimeouts()).toStrictEqual([]);
      expect(clock.pendingTimers).toBe(0);
    });

    it('after a delete of the last state nothing of the worker is left', async () => {
      const { clock, registry, manager, touch } = await openTimed();
      await touch('a');
      await manager.deleteState('a');
      expect(registry.getTimeouts()).toStrictEqual([]);
      await clock.advance(500);

      expect(clock.pendingTimers).toBe(0);
    });

    it('however many idents and turns there are, there are two: one for windows, one for leases', async () => {
      const { clock, manager, touch } = await openTimed();
      await Promise.all(Array.from({ length: 100 }, (_, index) => touch(`ident ${index}`)));
      const turns = await Promise.all(
        Array.from({ length: 100 }, (_, index) => manager.openTurn(`ident ${index}`)),
      );
      expect(clock.pendingTimers).toBe(2);
      for (const turn of turns) await turn.rollback();
      expect(clock.pendingTimers).toBe(2);
      await clock.advance(5_000);
      expect(clock.pendingTimers).toBe(0);
    });

    it('after shutdown there is none, whatever was going on', async () => {
      const { clock, registry, manager, touch } = await openTimed();
      await Promise.all([touch('a'), touch('b')]);
      const turn = await manager.openTurn('a');
      const waiting = manager.modifyState(tokenOf('a'), () => 1).catch(() => undefined);
      const closing = manager.onModuleDestroy();
      await waiting;
      await turn.commit();
      await closing;

      expect(clock.pendingTimers).toBe(0);
      expect(registry.getTimeouts()).toStrictEqual([]);
      expect(manager.stats()).toStrictEqual({ mode: 'memory', openTurns: 0, waiting: 0, states: 0 });
    });

    it('a name that is taken in the registry is no obstacle', async () => {
      const { registry, touch } = await openTimed();
      const theirs = setTimeout(() => undefined, 1);
      registry.addTimeout(EXPIRATION_TIMER, theirs);
      await touch('a');

      expect(registry.getTimeouts()).toStrictEqual([EXPIRATION_TIMER]);
    });
  });

  describe('memory.maxStates', () => {
    it('beyond it the longest idle ident is evicted, with an event', async () => {
      const { manager, evicted, write } = await openLimited(3);
      await write('a', 'b', 'c');
      expect(evicted).toStrictEqual([]);
      await manager.getState(tokenOf('a'));
      await write('d', 'e');

      expect(evicted).toStrictEqual([hashIdent('b'), hashIdent('c')]);
      expect(manager.stats().states).toBe(3);
      expect((await manager.getState(tokenOf('a'))).count).toBe(1);
      expect((await manager.getState(tokenOf('b'))).count).toBe(0);
    });

    it('whoever watches what is evicted is told, and sees it fresh', async () => {
      const { manager, write } = await openLimited(1);
      const told: [reason: string, version: number, count: number][] = [];
      manager
        .watch(tokenOf('a'))
        .subscribe(({ reason, version, state }) => told.push([reason, version, state.count]));
      await write('a', 'b', 'a');
      await new Promise((resolve) => setImmediate(resolve));

      expect(told).toStrictEqual([
        ['current', 0, 0],
        ['committed', 1, 1],
        ['evicted', 0, 0],
        ['committed', 1, 1],
      ]);
    });

    it('counts states, and evicts idents as a whole', async () => {
      const { manager, evicted, write } = await openLimited(3);
      await write('a');
      await manager.modifyState(tokenOf('a').withClass(OtherState), (state) => void (state.text = 'x'));
      await write('b', 'c');

      expect(evicted).toStrictEqual([hashIdent('a')]);
      expect(manager.stats().states).toBe(2);
      expect(await manager.count()).toBe(2);
    });

    it('an ident that is locked is never evicted, nor is the one that is being written', async () => {
      const { manager, evicted, write } = await openLimited(2);
      await write('a', 'b');
      const turn = await manager.openTurn('a');
      await write('c');
      expect(evicted).toStrictEqual([hashIdent('b')]);
      const second = await manager.openTurn('c');
      await write('d');
      expect(evicted).toStrictEqual([hashIdent('b')]);
      expect(manager.stats().states).toBe(3);
      await turn.rollback();
      await second.rollback();
      await write('e');

      expect(manager.stats().states).toBe(2);
      expect(evicted).toStrictEqual(['b', 'd', 'a', 'c'].map(hashIdent).slice(0, evicted.length));
      expect((await manager.getState(tokenOf('e'))).count).toBe(1);
    });

    it('is warned of once a minute, with the option to raise and without the ident', async () => {
      const { clock, write } = await openLimited(1);
      await write('secret-a', 'secret-b', 'secret-c');
      expect(logs.warnings).toHaveLength(1);
      expect(logs.warnings[0]).toContain('`memory.maxStates` (1)');
      expect(logs.warnings[0]).not.toContain('secret');
      await clock.advance(60_000);
      await write('d', 'e');

      expect(logs.warnings).toHaveLength(2);
    });
  });
});

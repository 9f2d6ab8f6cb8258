import { inspect } from 'node:util';
import { describe, expect, it } from '@jest/globals';
import { StateError, StateToken, type StateEvent } from 'nestjs-state';
import { RecordedLogs } from '../support/manager-logs.js';
import { failureOf, newIdent, untilWaiting, type ConformanceHarness } from './harness.js';
import { BoxState, CounterState } from './states.js';

export function quietSuite(harness: ConformanceHarness): void {
  describe('quiet', () => {
    it('S16: no log, no error and no event contains an ident', async () => {
      const logs = RecordedLogs.start();
      const ident = `secret-${newIdent()}`;
      const token = new StateToken(ident, BoxState);
      const events: StateEvent[] = [];
      const failures: unknown[] = [];
      const manager = await harness.open({
        expiration: 700,
        maxHold: 400,
        lockWarningThreshold: 20,
        maxWaiters: 1,
        drainTimeout: 30,
      });
      manager.events$.subscribe((event) => {
        events.push(event);
        throw new Error('a subscriber that throws');
      });

      await manager.modifyState(token, (box) => void (box.value = 1));
      failures.push(await failureOf(manager.modifyState(token, (box) => void (box.value = () => 1))));
      failures.push(await failureOf(manager.setState(token, 5 as never)));
      const holder = await manager.openTurn(ident, { label: 'Reports.slow' });
      const timedOut = failureOf(manager.modifyState(token, () => 1, { acquireTimeout: 30 }));
      await untilWaiting(manager, 1);
      failures.push(await failureOf(manager.modifyState(token, () => 1)));
      await harness.advance(800);
      failures.push(
        await timedOut,
        await failureOf(holder.commit()),
        await failureOf(holder.state(BoxState)),
      );
      const finished = await manager.openTurn(ident);
      await finished.rollback();
      failures.push(await failureOf(finished.commit()), await failureOf(finished.state(BoxState)));
      await manager.modifyState(token, (box) => void (box.value = 2));
      await manager.deleteState(ident);
      await manager.modifyState(token.withClass(CounterState), (counter) => counter.increment());
      await harness.advance(1_000);
      const last = await manager.openTurn(ident);
      (await last.state(BoxState)).value = 3;
      const closing = manager.onModuleDestroy();
      await harness.advance(150);
      await closing;
      failures.push(await failureOf(last.commit()), await failureOf(manager.getState(token)));

      expect(failures).toHaveLength(10);
      for (const failure of failures) expect(failure).toBeInstanceOf(StateError);
      expect(events.map(({ type }) => type)).toEqual(
        expect.arrayContaining(['created', 'deleted', 'expired', 'lock-lost']),
      );
      for (const event of events) expect(event.identHash).toMatch(/^[0-9a-f]{12}$/);
      expect(logs.lines.length).toBeGreaterThan(3);
      const everything = inspect({ failures, events, lines: logs.lines }, { depth: 10, showHidden: true });
      expect(everything).not.toContain(ident);
      expect(everything).not.toContain('secret-');
    });

    it('S16: an ident that is refused is not repeated in the refusal', async () => {
      const manager = await harness.open();
      for (const ident of [`secret-${'x'.repeat(300)}`, 'secret-\n', ['secret-']]) {
        const failures = [
          await failureOf(manager.openTurn(ident as string)),
          await failureOf(manager.deleteState(ident as string)),
          await failureOf((async () => new StateToken(ident as string, BoxState))()),
        ];
        expect(inspect(failures, { depth: 10 }).replaceAll(import.meta.url, '')).not.toContain('secret-');
      }
    });

    it('S16: the events of one ident carry the same hash, those of another a different one', async () => {
      const manager = await harness.open();
      const hashes: string[] = [];
      manager.events$.subscribe(({ identHash }) => hashes.push(identHash));
      const token = new StateToken(newIdent(), CounterState);
      await manager.modifyState(token, (counter) => counter.increment());
      await manager.deleteState(token.ident);
      await manager.modifyState(new StateToken(newIdent(), CounterState), (counter) => counter.increment());

      expect(hashes).toHaveLength(3);
      expect(hashes[0]).toBe(hashes[1]);
      expect(hashes[0]).not.toBe(hashes[2]);
    });
  });
}

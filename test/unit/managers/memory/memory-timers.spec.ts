import { describe, expect, it } from '@jest/globals';
import { State, StateToken } from 'nestjs-state';
import { FakeClock } from '../../../support/fake-clock.js';
import { openMemoryManager } from '../../../support/manager-memory.js';

@State()
class NoteState {
  text = '';
}

async function open() {
  const clock = new FakeClock();
  const manager = await openMemoryManager({ expiration: '10s', maxHold: '1m' }, clock);
  const write = (ident: string) =>
    manager.modifyState(new StateToken(ident, NoteState), (note) => {
      note.text += '.';
    });
  return { clock, manager, write };
}

describe('the timers of the memory manager', () => {
  it('S6: are gone when the last state has expired', async () => {
    const { clock, manager, write } = await open();
    await Promise.all(['a', 'b', 'a'].map(write));
    expect(clock.pendingTimers).toBeGreaterThan(0);
    await clock.advance(10_000);
    expect(manager.stats().states).toBe(0);
    expect(clock.pendingTimers).toBe(0);
  });

  it('S6: are gone when the last state is deleted', async () => {
    const { clock, manager, write } = await open();
    await write('a');
    await manager.deleteState('a');
    expect(clock.pendingTimers).toBe(0);
  });

  it('S6: are gone after a turn that has stored nothing, and after one that failed', async () => {
    const { clock, manager } = await open();
    const token = new StateToken('a', NoteState);
    await manager.modifyState(token, () => undefined);
    expect(clock.pendingTimers).toBe(0);
    await expect(manager.modifyState(token, () => Promise.reject(new Error('no')))).rejects.toThrow('no');
    expect(clock.pendingTimers).toBe(0);
  });

  it('S8: a turn that is open while the last state expires still loses its lock after `maxHold`', async () => {
    const { clock, manager, write } = await open();
    await write('a');
    const turn = await manager.openTurn('b');
    await clock.advance(30_000);
    expect(manager.stats()).toMatchObject({ states: 0, openTurns: 1 });
    await clock.advance(30_000);
    expect(turn.signal.aborted).toBe(true);
    expect(manager.stats().openTurns).toBe(0);
    expect(clock.pendingTimers).toBe(0);
  });
});

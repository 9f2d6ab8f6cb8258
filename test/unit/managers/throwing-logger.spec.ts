import { afterEach, beforeEach, describe, expect, it, jest } from '@jest/globals';
import { Logger } from '@nestjs/common';
import { State, StateToken } from 'nestjs-state';
import { FakeClock } from '../../support/fake-clock.js';
import { openMemoryManager } from '../../support/manager-memory.js';

@State()
class NoteState {
  text = '';
}

describe('a logger that throws', () => {
  const token = new StateToken('somebody', NoteState);

  beforeEach(() => {
    jest.spyOn(Logger.prototype, 'warn').mockImplementation(() => {
      throw new Error('The disk of the logs is full.');
    });
    jest.spyOn(Logger.prototype, 'error').mockImplementation(() => undefined);
  });

  afterEach(() => {
    jest.restoreAllMocks();
  });

  it('keeps no lock of a turn that is warned of for being slow', async () => {
    const clock = new FakeClock();
    const manager = await openMemoryManager({ lockWarningThreshold: '1s' }, clock);
    const turn = await manager.openTurn('somebody');
    await clock.advance(2_000);
    await turn.rollback().catch(() => undefined);
    expect(manager.stats()).toMatchObject({ openTurns: 0, waiting: 0 });
    await manager.onModuleDestroy();
  });

  it('keeps no lock of a turn that is lost, and the next one in the queue enters', async () => {
    const clock = new FakeClock();
    const manager = await openMemoryManager({ maxHold: '5s', acquireTimeout: '20s' }, clock);
    await manager.openTurn('somebody');
    const next = manager.modifyState(token, (note) => {
      note.text = 'mine';
    });
    await clock.advance(7_000);
    await next;
    expect((await manager.getState(token)).text).toBe('mine');
    expect(manager.stats()).toMatchObject({ openTurns: 0, waiting: 0 });
    await manager.onModuleDestroy();
  });

  it('does not keep shutdown from taking the locks of turns that do not end', async () => {
    const clock = new FakeClock();
    const manager = await openMemoryManager({ drainTimeout: '1s' }, clock);
    await manager.setState(token, new NoteState());
    await Promise.all(['somebody', 'somebody else'].map((ident) => manager.openTurn(ident)));
    const closing = manager.onModuleDestroy().catch(() => undefined);
    await clock.advance(2_000);
    await closing;
    expect(manager.stats()).toMatchObject({ openTurns: 0, waiting: 0, states: 0 });
    expect(clock.pendingTimers).toBe(0);
  });
});

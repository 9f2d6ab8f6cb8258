import { describe, expect, it } from '@jest/globals';
import { State, StateToken } from 'nestjs-state';
import { ExpirationMeter } from '../../../lib/inspector/expiration-meter.js';
import { FakeClock } from '../../support/fake-clock.js';
import { openMemoryManager } from '../../support/manager-memory.js';

@State('meter.text')
class TextState {
  text = '';
}

async function setUp() {
  const clock = new FakeClock();
  const manager = await openMemoryManager({ expiration: 1_000 }, clock);
  const meter = new ExpirationMeter(manager, clock);
  const expire = async (ident: string) => {
    await manager.modifyState(new StateToken(ident, TextState), (state) => void (state.text = ident));
    await clock.advance(1_000);
  };
  const isListening = () => (manager as unknown as { isObserved: boolean }).isObserved;
  return { clock, manager, meter, expire, isListening };
}

describe('The meter of expirations', () => {
  it('counts those of the last minute', async () => {
    const { clock, meter, expire, manager } = await setUp();
    expect(meter.look()).toEqual({ lastMinute: 0, countedMs: 0 });
    await expire('a');
    await expire('b');
    expect(meter.look()).toEqual({ lastMinute: 2, countedMs: 2_000 });
    await clock.advance(40_000);
    await expire('c');
    expect(meter.look()).toEqual({ lastMinute: 3, countedMs: 43_000 });
    await clock.advance(18_000);
    expect(meter.look()).toEqual({ lastMinute: 2, countedMs: 60_000 });
    await clock.advance(59_000);
    expect(meter.look()).toEqual({ lastMinute: 0, countedMs: 60_000 });
    meter.stop();
    await manager.onModuleDestroy();
  });

  it('listens for a minute after the last look, and leaves nothing behind', async () => {
    const { clock, meter, expire, isListening, manager } = await setUp();
    await expire('before');
    expect(isListening()).toBe(false);
    meter.look();
    await clock.advance(50_000);
    expect(meter.look().lastMinute).toBe(0);
    await clock.advance(59_000);
    expect(isListening()).toBe(true);
    await clock.advance(1_000);
    expect([isListening(), clock.pendingTimers]).toEqual([false, 0]);
    await expire('while nobody looks');
    expect(meter.look()).toEqual({ lastMinute: 0, countedMs: 0 });
    meter.stop();
    expect([isListening(), clock.pendingTimers]).toEqual([false, 0]);
    await manager.onModuleDestroy();
  });
});

import { describe, expect, it } from '@jest/globals';
import { KeyedMutex, type WaitOutcome } from '../../../lib/internal/keyed-mutex.js';
import { FakeClock, settle } from '../../support/fake-clock.js';

const POSITIONS = [0, 1, 2, 3];

const setUp = () => {
  const clock = new FakeClock();
  const mutex = new KeyedMutex(clock);
  const holder = { name: 'holder' };
  mutex.tryAcquire('key', holder);
  const served: unknown[] = [];
  const queue = (owner: object, signal?: AbortSignal, timeoutMs = 1_000): Promise<WaitOutcome> =>
    mutex.wait('key', owner, { timeoutMs, signal }).then((outcome) => {
      served.push(owner, outcome);
      return outcome;
    });
  return { clock, mutex, holder, served, queue };
};

describe('KeyedMutex', () => {
  it('has one owner for each key, and leaves no entry when it is released', () => {
    const { mutex, holder } = setUp();
    expect(mutex.tryAcquire('key', {})).toBe(false);
    expect(mutex.tryAcquire('other', holder)).toBe(true);
    expect(mutex.held).toBe(2);
    expect(mutex.ownerOf('key')).toBe(holder);
    expect(mutex.release('key', holder)).toBe(true);
    expect(mutex.release('other', holder)).toBe(true);
    expect(mutex.held).toBe(0);
    expect(mutex.ownerOf('key')).toBeUndefined();
  });

  it.each(['__proto__', 'constructor', '7', '4294967295', ''])('takes %j for a key like any other', (key) => {
    const { mutex } = setUp();
    const owner = { name: 'owner' };
    expect([mutex.ownerOf(key), mutex.waitingFor(key)]).toStrictEqual([undefined, 0]);
    expect(mutex.tryAcquire(key, owner)).toBe(true);
    expect(mutex.tryAcquire(key, {})).toBe(false);
    expect(mutex.ownerOf(key)).toBe(owner);
    expect(mutex.release(key, owner)).toBe(true);
    expect([mutex.ownerOf(key), mutex.held]).toStrictEqual([undefined, 1]);
  });

  it('is released by its owner alone, and only once', () => {
    const { mutex, holder } = setUp();
    expect(mutex.release('key', {})).toBe(false);
    expect(mutex.release('unknown', holder)).toBe(false);
    expect(mutex.ownerOf('key')).toBe(holder);
    expect(mutex.release('key', holder)).toBe(true);
    expect(mutex.release('key', holder)).toBe(false);
  });

  it('hands the lock to the longest waiter in the tick of the release: nobody can come in between', async () => {
    const { clock, mutex, holder, served, queue } = setUp();
    const [first, second] = [{ name: 'first' }, { name: 'second' }];
    const waiting = [queue(first), queue(second)];
    expect([mutex.waiting, mutex.waitingFor('key'), mutex.waitingFor('other')]).toStrictEqual([2, 2, 0]);
    mutex.release('key', holder);
    expect(mutex.ownerOf('key')).toBe(first);
    expect(mutex.tryAcquire('key', {})).toBe(false);
    mutex.release('key', first);
    mutex.release('key', second);
    await Promise.all(waiting);

    expect(served).toStrictEqual([first, 'acquired', second, 'acquired']);
    expect([mutex.held, mutex.waiting, clock.pendingTimers]).toStrictEqual([0, 0, 0]);
  });

  it.each(POSITIONS)('an abort at place %i leaves the queue before anything else happens', async (place) => {
    const { clock, mutex, holder, queue } = setUp();
    const controller = new AbortController();
    const owners = POSITIONS.map((number) => ({ number }));
    const outcomes = owners.map((owner, index) =>
      queue(owner, index === place ? controller.signal : undefined),
    );
    controller.abort();
    expect(mutex.waiting).toBe(POSITIONS.length - 1);
    mutex.release('key', holder);
    for (const owner of owners.filter((_, index) => index !== place)) {
      expect(mutex.ownerOf('key')).toBe(owner);
      mutex.release('key', owner);
    }

    expect(await Promise.all(outcomes)).toStrictEqual(
      POSITIONS.map((number) => (number === place ? 'aborted' : 'acquired')),
    );
    expect([mutex.held, mutex.waiting, clock.pendingTimers]).toStrictEqual([0, 0, 0]);
  });

  it.each(POSITIONS)('a timeout at place %i leaves the others in their order', async (place) => {
    const { clock, mutex, holder, queue } = setUp();
    const owners = POSITIONS.map((number) => ({ number }));
    const outcomes = owners.map((owner, index) => queue(owner, undefined, index === place ? 50 : 1_000));
    await clock.advance(49);
    expect(mutex.waiting).toBe(POSITIONS.length);
    await clock.advance(1);
    expect(mutex.waiting).toBe(POSITIONS.length - 1);
    expect(await outcomes[place]).toBe('timed-out');
    mutex.release('key', holder);
    for (const owner of owners.filter((_, index) => index !== place)) {
      expect(mutex.release('key', owner)).toBe(true);
    }
    expect([mutex.held, mutex.waiting, clock.pendingTimers]).toStrictEqual([0, 0, 0]);
  });

  it('what comes after the hand-over, an abort or a timeout, changes nothing', async () => {
    const { clock, mutex, holder, queue } = setUp();
    const controller = new AbortController();
    const owner = {};
    const outcome = queue(owner, controller.signal, 10);
    mutex.release('key', holder);
    controller.abort();
    await clock.advance(100);

    expect(await outcome).toBe('acquired');
    expect(mutex.ownerOf('key')).toBe(owner);
    expect(mutex.waiting).toBe(0);
  });

  it('a signal that is aborted already does not queue', async () => {
    const { clock, mutex, queue } = setUp();
    expect(await queue({}, AbortSignal.abort())).toBe('aborted');
    expect([mutex.waiting, clock.pendingTimers]).toStrictEqual([0, 0]);
  });

  it('cancelWaiters sends every waiter away and leaves the owners alone', async () => {
    const { clock, mutex, holder, queue } = setUp();
    mutex.tryAcquire('other', holder);
    const outcomes = [queue({}), queue({}), mutex.wait('other', {}, { timeoutMs: 5 })];
    mutex.cancelWaiters();
    expect([mutex.held, mutex.waiting, clock.pendingTimers]).toStrictEqual([2, 0, 0]);

    expect(await Promise.all(outcomes)).toStrictEqual(['cancelled', 'cancelled', 'cancelled']);
    mutex.release('key', holder);
    expect(mutex.ownerOf('key')).toBeUndefined();
  });

  it('any number of callers may wait with one signal, and Node has no leak to warn of', async () => {
    const { mutex, served, queue } = setUp();
    const warnings: Error[] = [];
    const onWarning = (warning: Error): void => void warnings.push(warning);
    process.on('warning', onWarning);
    const controller = new AbortController();
    const outcomes = Array.from({ length: 40 }, () => queue({}, controller.signal));
    expect(mutex.waiting).toBe(40);
    controller.abort();
    await Promise.all(outcomes);
    await settle();
    process.off('warning', onWarning);

    expect(served.filter((each) => each === 'aborted')).toHaveLength(40);
    expect(mutex.waiting).toBe(0);
    expect(warnings).toStrictEqual([]);
  });

  it('refuses to wait for a key that nobody holds', () => {
    const { mutex } = setUp();
    expect(() => mutex.wait('free', {}, { timeoutMs: 1 })).toThrow('held');
  });

  it('leaves no listener on the signal, however the wait ends', async () => {
    const { clock, mutex, holder, queue } = setUp();
    const signals = Array.from({ length: 3 }, () => new AbortController().signal);
    let listeners = 0;
    for (const signal of signals) {
      const { addEventListener, removeEventListener } = signal;
      signal.addEventListener = (...rest: unknown[]) => {
        listeners += 1;
        Reflect.apply(addEventListener, signal, rest);
      };
      signal.removeEventListener = (...rest: unknown[]) => {
        listeners -= 1;
        Reflect.apply(removeEventListener, signal, rest);
      };
    }
    const acquired = queue({}, signals[0]);
    const timedOut = queue({}, signals[1], 5);
    const cancelled = queue({}, signals[2]);
    expect(listeners).toBe(3);
    mutex.release('key', holder);
    await clock.advance(10);
    mutex.cancelWaiters();
    await settle();

    expect(await Promise.all([acquired, timedOut, cancelled])).toStrictEqual([
      'acquired',
      'timed-out',
      'cancelled',
    ]);
    expect(listeners).toBe(0);
  });
});

import { filter, firstValueFrom, map, take, toArray } from 'rxjs';
import { describe, expect, it } from '@jest/globals';
import { StateEventSource } from '../../../lib/managers/state-event-stream.js';
import { settle } from '../../support/fake-clock.js';

const explode = (): never => {
  throw new Error('subscriber');
};

const setUp = () => {
  const errors: unknown[] = [];
  const source = new StateEventSource<number>((error) => errors.push(error));
  return { source, stream: source.stream, errors };
};

describe('StateEventStream', () => {
  it('gives each event to each subscriber, from the moment it subscribes', () => {
    const { source, stream } = setUp();
    const [first, second]: [number[], number[]] = [[], []];
    source.emit(0);
    stream.subscribe((value) => first.push(value));
    source.emit(1);
    stream.subscribe({ next: (value) => second.push(value) });
    source.emit(2);

    expect(first).toStrictEqual([1, 2]);
    expect(second).toStrictEqual([2]);
  });

  it('knows whether anybody listens', () => {
    const { source, stream } = setUp();
    expect(source.observed).toBe(false);
    const subscriptions = [stream.subscribe(), stream.pipe(map(String)).subscribe()];
    expect(source.observed).toBe(true);
    for (const subscription of subscriptions) subscription.unsubscribe();
    expect(source.observed).toBe(false);
  });

  it('a subscriber that throws is reported, stays subscribed, and does not crash the process', async () => {
    const { source, stream, errors } = setUp();
    const uncaught: unknown[] = [];
    const onUncaught = (error: unknown): void => void uncaught.push(error);
    process.on('uncaughtException', onUncaught);
    const others: number[] = [];
    stream.subscribe(explode);
    stream.subscribe({ next: explode });
    stream.pipe(map((value) => value)).subscribe(explode);
    stream.pipe(filter(Boolean), map(String)).pipe(take(5)).subscribe({ next: explode });
    stream.subscribe((value) => others.push(value));
    source.emit(1);
    source.emit(2);
    await new Promise((resolve) => setTimeout(resolve, 20));
    process.off('uncaughtException', onUncaught);

    expect(errors).toHaveLength(8);
    expect(others).toStrictEqual([1, 2]);
    expect(uncaught).toStrictEqual([]);
  });

  it('an operator that throws ends its own stream, is reported, and does not crash the process', async () => {
    const { source, stream, errors } = setUp();
    const handled: unknown[] = [];
    stream.pipe(map(explode)).subscribe();
    stream.pipe(map(explode)).subscribe({ error: (error) => handled.push(error) });
    stream.pipe(map(explode)).subscribe({ error: explode });
    source.emit(1);
    source.emit(2);
    await settle();

    expect(errors).toHaveLength(2);
    expect(handled).toHaveLength(1);
    expect(source.observed).toBe(false);
  });

  it('completes, also when a subscriber throws at it', async () => {
    const { source, stream, errors } = setUp();
    let completed = 0;
    stream.subscribe({ complete: explode });
    stream.subscribe({ complete: () => (completed += 1) });
    stream.subscribe(null, null, () => (completed += 1));
    const all = firstValueFrom(stream.pipe(toArray()));
    source.emit(1);
    source.complete();

    expect(await all).toStrictEqual([1]);
    expect(completed).toBe(2);
    expect(errors).toHaveLength(1);
  });
});

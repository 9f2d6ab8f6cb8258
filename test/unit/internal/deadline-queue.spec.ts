import { describe, expect, it } from '@jest/globals';
import { DeadlineQueue, type DeadlineNode } from '../../../lib/internal/deadline-queue.js';

class Item implements DeadlineNode {
  previous: DeadlineNode | undefined = undefined;
  next: DeadlineNode | undefined = undefined;
  deadlineMs = 0;

  constructor(readonly name: string) {}
}

const drain = (queue: DeadlineQueue<Item>): string[] => {
  const names: string[] = [];
  for (let item = queue.first; item !== undefined; item = queue.first) {
    names.push(item.name);
    queue.remove(item);
  }
  return names;
};

const items = (names: string): Item[] => [...names].map((name) => new Item(name));

describe('DeadlineQueue', () => {
  it('gives its items in the order they were pushed', () => {
    const queue = new DeadlineQueue<Item>();
    items('abc').forEach((item, index) => queue.push(item, index));

    expect(queue.first?.deadlineMs).toBe(0);
    expect(drain(queue)).toStrictEqual(['a', 'b', 'c']);
    expect(queue.first).toBeUndefined();
  });

  it.each([
    ['first', 'a', 'bca'],
    ['middle', 'b', 'acb'],
    ['last', 'c', 'abc'],
  ])('an item that is pushed again moves from the %s place to the last', (_, name, expected) => {
    const queue = new DeadlineQueue<Item>();
    const all = items('abc');
    for (const item of all) queue.push(item, 1);
    const moved = all.find((item) => item.name === name) as Item;
    queue.push(moved, 2);

    expect(moved.deadlineMs).toBe(2);
    expect(drain(queue).join('')).toBe(expected);
  });

  it.each(['a', 'b', 'c'])('removing %s leaves the others in their order', (name) => {
    const queue = new DeadlineQueue<Item>();
    const all = items('abc');
    for (const item of all) queue.push(item, 1);
    const removed = all.find((item) => item.name === name) as Item;
    expect(DeadlineQueue.isQueued(removed)).toBe(true);
    queue.remove(removed);
    queue.remove(removed);

    expect(DeadlineQueue.isQueued(removed)).toBe(false);
    expect([removed.previous, removed.next]).toStrictEqual([undefined, undefined]);
    expect(drain(queue)).toStrictEqual(['a', 'b', 'c'].filter((each) => each !== name));
  });

  it('removing an item that never was inside does nothing', () => {
    const queue = new DeadlineQueue<Item>();
    const [first, stranger] = items('ax') as [Item, Item];
    queue.push(first, 1);
    queue.remove(stranger);

    expect(drain(queue)).toStrictEqual(['a']);
  });

  it('stays quick with a hot item in a large queue', () => {
    const queue = new DeadlineQueue<Item>();
    for (let index = 0; index < 200_000; index += 1) queue.push(new Item('cold'), 0);
    const hot = new Item('hot');
    const { user: before } = process.cpuUsage();
    for (let index = 0; index < 100_000; index += 1) queue.push(hot, 1);

    // A tenth of what an ordered Map takes: there each move walks over what others have left behind.
    expect((process.cpuUsage().user - before) / 1_000).toBeLessThan(500);
  });
});

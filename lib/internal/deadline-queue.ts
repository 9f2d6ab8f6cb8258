/** What an item needs to stand in a {@link DeadlineQueue}: the links are its own fields, so nothing is allocated. */
export interface DeadlineNode {
  previous: DeadlineNode | undefined;
  next: DeadlineNode | undefined;
  /** When it is due, in the milliseconds of the clock in use. */
  deadlineMs: number;
}

/**
 * Items in the order of their deadlines: an intrusive doubly linked list.
 *
 * Because every item of one queue gets the same delay, the newest deadline is always the latest one: `push` appends,
 * and the first item is the next one due. Cost: O(1) and no allocation for every operation, at any size.
 */
export class DeadlineQueue<T extends DeadlineNode> {
  /** Whether `node` stands in a queue. */
  static isQueued(node: DeadlineNode): boolean {
    return node.next !== undefined;
  }

  private readonly ends: DeadlineNode;

  constructor() {
    this.ends = { previous: undefined, next: undefined, deadlineMs: 0 };
    this.ends.previous = this.ends;
    this.ends.next = this.ends;
  }

  /** The item with the earliest deadline. */
  get first(): T | undefined {
    return this.ends.next === this.ends ? undefined : (this.ends.next as T);
  }

  /** All items, the earliest deadline first. */
  *[Symbol.iterator](): Iterator<T> {
    for (let node = this.ends.next; node !== undefined && node !== this.ends; node = node.next)
      yield node as T;
  }

  /** Puts `node` last, wherever it stood before. `deadlineMs` must not be earlier than that of any item inside. */
  push(node: T, deadlineMs: number): void {
    this.remove(node);
    const last = this.ends.previous as DeadlineNode;
    node.deadlineMs = deadlineMs;
    node.previous = last;
    node.next = this.ends;
    last.next = node;
    this.ends.previous = node;
  }

  /** Takes `node` out. An item that is not inside is left alone. */
  remove(node: T): void {
    if (node.next === undefined) return;
    (node.previous as DeadlineNode).next = node.next;
    node.next.previous = node.previous;
    node.previous = undefined;
    node.next = undefined;
  }
}

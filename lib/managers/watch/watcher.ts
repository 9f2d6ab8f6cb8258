import { AsyncLocalStorage } from 'node:async_hooks';
import type { Subscriber } from 'rxjs';
import { runInFrame } from '../turn-scope.js';
import type { StateChange } from './state-change.js';

/** One subscriber, and what it has not been told yet. */
export class Watcher {
  /** It waits for the first look at the state. */
  isNew = true;
  private inbox: StateChange<object>[] = [];
  // It is called in the context in which it subscribed, but inside no turn: neither in that of who committed, nor in one
  // that would live as long as the subscription.
  private readonly inContext = runInFrame(
    undefined,
    () => AsyncLocalStorage.snapshot(),
    undefined,
    undefined,
  );

  constructor(private readonly subscriber: Subscriber<StateChange<object>>) {}

  put(change: StateChange<object>): void {
    this.inbox.push(change);
  }

  /** Tells what is to be told, in its order. */
  deliver(): void {
    if (this.inbox.length === 0) return;
    const changes = this.inbox;
    this.inbox = [];
    this.inContext(() => {
      for (const change of changes) this.subscriber.next(change);
    });
  }

  fail(error: unknown): void {
    this.inContext(() => this.subscriber.error(error));
  }

  complete(): void {
    this.deliver();
    this.inContext(() => this.subscriber.complete());
  }
}

import type { HandlerTurns } from './handler-turns.js';

const NOW = Promise.resolve();

/**
 * Hands turns back at the end of an event-loop turn. It knows the turns alone: a request, which has its answer by then,
 * is garbage already.
 *
 * Cost: an immediate, which makes Node look for I/O once more, is started only for turns that are unclaimed when every
 * promise that can go on has gone on. Most are claimed by then.
 */
export class UnclaimedTurns {
  private offers: HandlerTurns[] = [];
  private isWatching = false;

  add(turns: HandlerTurns): void {
    this.offers.push(turns);
    if (this.isWatching) return;
    this.isWatching = true;
    // What is ticked in a microtask comes when there are no more of them.
    void NOW.then(this.lookSoon);
  }

  private readonly lookSoon = (): void => process.nextTick(this.look);

  private readonly look = (): void => {
    this.offers = this.offers.filter(isUnclaimed);
    if (this.offers.length > 0) setImmediate(this.handBack);
    else this.isWatching = false;
  };

  private readonly handBack = (): void => {
    const { offers } = this;
    this.offers = [];
    this.isWatching = false;
    let done = 0;
    try {
      for (const turns of offers) {
        done += 1;
        turns.handBack();
      }
    } finally {
      // What one of them throws, a logger say, must not keep the locks of the others.
      for (const turns of offers.slice(done)) this.add(turns);
    }
  };
}

function isUnclaimed(turns: HandlerTurns): boolean {
  return turns.isUnclaimed;
}

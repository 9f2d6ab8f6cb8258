import type { RequestTurn } from './request-turn.js';

/** Hands turns back at the end of an event-loop turn: with one immediate for all of its requests. */
export class UnclaimedTurns {
  private turns: RequestTurn[] = [];

  add(turn: RequestTurn): void {
    if (this.turns.length === 0) setImmediate(this.handBack);
    this.turns.push(turn);
  }

  private readonly handBack = (): void => {
    const { turns } = this;
    this.turns = [];
    let done = 0;
    try {
      for (const turn of turns) {
        done += 1;
        turn.handBack();
      }
    } finally {
      // What one of them throws, a logger say, must not keep the locks of the others.
      for (const turn of turns.slice(done)) this.add(turn);
    }
  };
}

import { describe, expect, it } from '@jest/globals';
import { firstValueFrom, Observable, of, toArray } from 'rxjs';
import { HandlerRun } from '../../../lib/injection/handler-run.js';
import { HandlerTurns } from '../../../lib/injection/handler-turns.js';
import type { RequestTurn } from '../../../lib/injection/request-turn.js';

/** A run of `handler` whose commit does what `commit` does. */
function answerOf(handler: Observable<unknown>, commit: (value: unknown) => unknown): Promise<unknown[]> {
  const turns = Object.assign(new HandlerTurns([]), { commit });
  const request = { claim: () => turns, enter: () => ({ turn: undefined, outer: undefined }) };
  const answer = new Observable((subscriber) => {
    const run = new HandlerRun(
      request as unknown as RequestTurn,
      { handle: () => handler },
      subscriber,
      async (error) => error,
    );
    run.start();
    return () => run.leave();
  });
  return firstValueFrom(answer.pipe(toArray()));
}

function refuse(): never {
  throw new Error('refused');
}

describe('the run of a handler that answers at once', () => {
  it('answers with what the commit made of its first value, and with the others as they are', async () => {
    expect(await answerOf(of(1, 2), (value) => `committed ${String(value)}`)).toEqual(['committed 1', 2]);
  });

  it('fails when its commit fails, though the handler has completed', async () => {
    await expect(answerOf(of(1, 2), refuse)).rejects.toThrow('refused');
  });
});

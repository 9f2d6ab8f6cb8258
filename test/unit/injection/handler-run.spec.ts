import { Readable } from 'node:stream';
import { describe, expect, it } from '@jest/globals';
import { StreamableFile } from '@nestjs/common';
import { concat, firstValueFrom, lastValueFrom, Observable, of, throwError, toArray } from 'rxjs';
import { HandlerRun } from '../../../lib/injection/handler-run.js';
import { HandlerTurns, type HandlerCommit } from '../../../lib/injection/handler-turns.js';
import type { RequestTurn } from '../../../lib/injection/request-turn.js';
import { Gate, tick } from '../../conformance/harness.js';

/** A run of `handler` whose commit does what `commit` does. */
function answerOf(
  handler: Observable<unknown>,
  commit: (value: unknown) => HandlerCommit,
): Promise<unknown[]> {
  const turns = Object.assign(new HandlerTurns(undefined), { commit });
  const request = {
    claim: () => turns,
    enter: () => ({ turn: undefined, outer: undefined }),
    explain: async (error: unknown) => error,
  };
  const answer = new Observable((subscriber) => {
    const run = new HandlerRun(request as unknown as RequestTurn, { handle: () => handler }, subscriber);
    run.start();
    return run;
  });
  return firstValueFrom(answer.pipe(toArray()));
}

const committed = (value: unknown, stored?: Promise<void>): HandlerCommit => ({
  result: `committed ${String(value)}`,
  stored,
});

function refuse(): never {
  throw new Error('refused');
}

describe('the run of a handler that answers at once', () => {
  it('answers with what the commit made of its first value, and with the others as they are', async () => {
    expect(await answerOf(of(1, 2), (value) => committed(value))).toEqual(['committed 1', 2]);
  });

  it('fails when its commit fails, though the handler has completed', async () => {
    await expect(answerOf(of(1, 2), refuse)).rejects.toThrow('refused');
  });
});

async function refuseLater(): Promise<void> {
  await tick();
  refuse();
}

describe('the run of a handler whose store takes time', () => {
  it('says nothing before the store has answered, and then everything in its order', async () => {
    const store = new Gate();
    let answer: unknown[] | undefined;
    const answered = answerOf(of(1, 2, 3), (value) => committed(value, store.opened)).then(
      (values) => (answer = values),
    );
    await tick();
    expect(answer).toBeUndefined();
    store.open();

    expect(await answered).toEqual(['committed 1', 2, 3]);
  });

  it('fails when the store refuses, whatever else the handler has said', async () => {
    await expect(answerOf(of(1, 2), (value) => committed(value, refuseLater()))).rejects.toThrow('refused');
    const failing = concat(
      of(1),
      throwError(() => new Error('later')),
    );
    await expect(answerOf(failing, (value) => committed(value, refuseLater()))).rejects.toThrow('refused');
  });

  it('answers with the committed value before the error that the handler ends in', async () => {
    const seen: unknown[] = [];
    const failing = concat(
      of(1),
      throwError(() => new Error('later')),
    );
    const answer = answerOf(failing, (value) => {
      seen.push(value);
      return committed(value, tick());
    });
    await expect(answer).rejects.toThrow('later');
    expect(seen).toEqual([1]);
  });
});

const FAILURE = new Error('not stored');

describe('A file that a handler returns', () => {
  it.each<[string, (file: unknown) => ReturnType<HandlerTurns['commit']>]>([
    ['cannot be made', () => { throw FAILURE; }], // prettier-ignore
    ['is refused by the store', (file) => ({ result: file, stored: Promise.reject(FAILURE) })],
  ])('is closed when the commit %s: Nest 11 closes none', async (_, commit) => {
    const stream = Readable.from(['content']);
    const turns = { commit, rollback: () => undefined };
    const request = { claim: () => turns, enter: () => ({}), explain: async (error: unknown) => error };
    const answer = new Observable((subscriber) => {
      const handler = { handle: () => of(new StreamableFile(stream)) };
      const run = new HandlerRun(request as unknown as RequestTurn, handler, subscriber);
      run.start();
      return run;
    });

    await expect(lastValueFrom(answer)).rejects.toBe(FAILURE);
    expect(stream.destroyed).toBe(true);
  });
});

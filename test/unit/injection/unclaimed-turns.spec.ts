import { setImmediate as nextImmediate } from 'node:timers/promises';
import { describe, expect, it, jest } from '@jest/globals';
import { HandlerTurns } from '../../../lib/injection/handler-turns.js';
import { UnclaimedTurns } from '../../../lib/injection/unclaimed-turns.js';
import type { ManagedTurn } from '../../../lib/managers/managed-turn.js';

function offered(onRollback: () => void = () => undefined) {
  const rollback = jest.fn(onRollback);
  const turns = new HandlerTurns({ abandon: rollback } as unknown as ManagedTurn);
  turns.offer();
  return { turns, rollback };
}

/** The immediates of this event-loop turn are over, also those that were started by ticks of it. */
async function turnEnds(): Promise<void> {
  await nextImmediate();
  await nextImmediate();
}

describe('UnclaimedTurns', () => {
  it('leaves turns to whoever claims them after however many promises', async () => {
    const unclaimed = new UnclaimedTurns();
    const { turns, rollback } = offered();
    unclaimed.add(turns);
    for (let hop = 0; hop < 1_000; hop += 1) await undefined;
    expect(turns.claim()).toBe(true);
    await turnEnds();
    expect(rollback).not.toHaveBeenCalled();
  });

  it('hands back at the end of the event-loop turn what nobody has claimed, and nobody can claim it afterwards', async () => {
    const unclaimed = new UnclaimedTurns();
    const { turns, rollback } = offered();
    unclaimed.add(turns);
    await new Promise((resolve) => process.nextTick(resolve));
    expect(turns.isUnclaimed).toBe(true);
    await nextImmediate();
    expect(rollback).toHaveBeenCalledTimes(1);
    expect(turns.isUnclaimed).toBe(false);
    expect(turns.claim()).toBe(false);
  });

  it('starts no immediate for turns that are claimed, and one for all that are not', async () => {
    const start = jest.spyOn(globalThis, 'setImmediate');
    try {
      const unclaimed = new UnclaimedTurns();
      const claimed = [offered(), offered()];
      for (const { turns } of claimed) unclaimed.add(turns);
      for (const { turns } of claimed) turns.claim();
      await turnEnds();
      expect(start).not.toHaveBeenCalled();
      const left = [offered(), offered(), offered()];
      for (const { turns } of left) unclaimed.add(turns);
      await turnEnds();
      expect(start).toHaveBeenCalledTimes(1);
      for (const { rollback } of left) expect(rollback).toHaveBeenCalledTimes(1);
    } finally {
      start.mockRestore();
    }
  });

  it('hands back what is offered at any time of an event-loop turn', async () => {
    const unclaimed = new UnclaimedTurns();
    const moments: ((offer: () => void) => void)[] = [
      (offer) => offer(),
      (offer) => process.nextTick(offer),
      (offer) => void Promise.resolve().then(offer),
      (offer) => process.nextTick(() => void Promise.resolve().then(() => process.nextTick(offer))),
      (offer) => setImmediate(offer),
      (offer) => setTimeout(offer, 1),
    ];
    for (const at of moments) {
      const { turns, rollback } = offered();
      await new Promise<void>((resolve) => {
        at(() => {
          unclaimed.add(turns);
          resolve();
        });
      });
      await turnEnds();
      expect(rollback).toHaveBeenCalledTimes(1);
    }
  });

  it('hands all others back when one of them throws', async () => {
    const unclaimed = new UnclaimedTurns();
    const failing = offered(() => {
      throw new Error('the logger is gone');
    });
    const others = [offered(), offered()];
    for (const { turns } of [failing, ...others]) unclaimed.add(turns);
    // Run by hand: what an immediate throws ends the process.
    const { handBack } = unclaimed as unknown as { handBack: () => void };
    expect(handBack).toThrow('the logger is gone');
    await turnEnds();
    for (const { rollback } of others) expect(rollback).toHaveBeenCalledTimes(1);
    expect(failing.rollback).toHaveBeenCalledTimes(1);
  });
});

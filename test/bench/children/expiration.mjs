// One way of expiring with its idents, in a heap that nobody else fills.
import { setTimeout as delay } from 'node:timers/promises';
import { EXPIRATIONS, IdleState, MovedClock, WINDOW_MS } from '../peers/expiration.mjs';
import { childArguments, serve } from '../support/child.mjs';
import { randomFrom, shuffle } from '../support/figures.mjs';

const [name, size] = childArguments();
const clock = new MovedClock();
const due = size / 100;
/** How long those that are due are over their time. */
const MARGIN_MS = 60_000;
const hasTimers = name === 'one timer for each';

const idents = Array.from(
  { length: size },
  (_, number) => `visitor-${number.toString(36).padStart(25, '0')}`,
);
const states = Array.from({ length: size }, () => Object.freeze(new IdleState()));
const order = shuffle(
  Array.from({ length: size }, (_, index) => index),
  randomFrom(2),
);
const bytesBefore = usedBytes();
const expiration = EXPIRATIONS[name](clock, size);
for (let index = 0; index < size; index += 1) expiration.add(idents[index], states[index]);
const bytesEach = (usedBytes() - bytesBefore) / size;
let next = 0;

/** What is kept besides the idents and the states, which were there before. */
function usedBytes() {
  globalThis.gc();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

function touch(count) {
  for (let done = 0; done < count; done += 1) {
    expiration.touch(idents[order[next]]);
    next = next + 1 === size ? 0 : next + 1;
  }
}

/** Lets one in a hundred fall due, wakes, and puts them back. */
async function wake() {
  const gone = order.slice(0, due);
  next = 0;
  touch(due);
  clock.aheadMs += WINDOW_MS / 2;
  // A clock that looks only now and then has seen it by then.
  await delay(5);
  touch(size - due);
  clock.aheadMs += WINDOW_MS / 2 + MARGIN_MS;
  await delay(5);
  globalThis.gc();
  const blockedMs = expiration.wake();
  assertGone(expiration.size());
  for (const index of gone) expiration.add(idents[index], states[index]);
  return Math.max(...blockedMs);
}

/** The same with timers that fire: they have to be waited for, and all be due when the event loop comes to them. */
async function wakeTimers() {
  const gone = order.slice(0, due);
  globalThis.gc();
  const blockedMs = await expiration.expireSoon(gone.map((index) => idents[index]));
  assertGone(expiration.size());
  for (const index of gone) expiration.add(idents[index], states[index]);
  return blockedMs;
}

function assertGone(left) {
  if (left !== size - due) throw new Error(`${name}: ${size - left} of ${due} have expired.`);
}

serve({
  bytesEach: () => bytesEach,
  touch(count) {
    const startMs = performance.now();
    touch(count);
    return performance.now() - startMs;
  },
  wake: hasTimers ? wakeTimers : wake,
});

import { StateToken } from 'nestjs-state';
import { compare, effort } from '../harness.mjs';
import { floor, memoryStore, mutexAndCacheManager, mutexAndLru } from '../peers/memory.mjs';
import { randomFrom, shuffle } from '../support/figures.mjs';
import { atLeast, comparison, gainOf, ratio } from '../support/report.mjs';
import { openStates, plainVisitor, totalOf, visit, VisitorState } from '../support/states.mjs';

const IDENTS = 10_000;
const AT_ONCE = 32;

export const title = 'Memory turn, uncontended';

export async function run({ isQuick }) {
  const idents = shuffle(
    Array.from({ length: IDENTS }, (_, number) => `visitor-${number}`),
    randomFrom(1),
  );
  const { states, close } = await openStates({ mode: 'memory' });
  try {
    const ours = {
      name: 'nestjs-state',
      run: oneAfterTheOther(idents, (ident) =>
        states.modifyState(new StateToken(ident, VisitorState), visit),
      ),
      total: () => totalOf(states, idents),
    };
    const outcomes = await compare(
      [
        ours,
        peer('floor: Map + minimal lock, no rollback', idents, floor(plainVisitor)),
        peer('async-mutex + lru-cache, no rollback', idents, mutexAndLru(plainVisitor, IDENTS)),
        peer(
          'async-mutex + lru-cache + structuredClone',
          idents,
          mutexAndLru(plainVisitor, IDENTS, structuredClone),
        ),
        peer('async-mutex + cache-manager', idents, mutexAndCacheManager(plainVisitor)),
        peer('express-session MemoryStore, unlocked', idents, memoryStore(plainVisitor)),
        peer(`… ${AT_ONCE} idents at once`, idents, memoryStore(plainVisitor), manyAtOnce),
      ],
      effort(isQuick),
    );
    const gain = (name) => gainOf(outcomes, name);
    return {
      tables: [comparison(outcomes)],
      goals: [
        atLeast('over async-mutex + lru-cache', gain('async-mutex + lru-cache, no rollback'), 1),
        atLeast('over async-mutex + cache-manager', gain('async-mutex + cache-manager'), 2),
        atLeast('over the MemoryStore of express-session', gain('express-session MemoryStore, unlocked'), 2),
      ],
      notes: [
        `Distance to the floor: ${ratio(1 / gain('floor: Map + minimal lock, no rollback'))} its time for a turn.`,
      ],
    };
  } finally {
    await close();
  }
}

function peer(name, idents, { modify, read }, drive = oneAfterTheOther) {
  return {
    name,
    run: drive(idents, (ident) => modify(ident, visit)),
    async total() {
      let total = 0;
      for (const ident of idents) total += (await read(ident)).count;
      return total;
    },
  };
}

function oneAfterTheOther(idents, turn) {
  let next = 0;
  return async (count) => {
    for (let done = 0; done < count; done += 1) {
      await turn(idents[next]);
      next = (next + 1) % idents.length;
    }
  };
}

/** For a store that lets each call wait for the event loop: there is always somebody who need not wait. */
function manyAtOnce(idents, turn) {
  let next = 0;
  return async (count) => {
    let left = count;
    const task = async () => {
      while (left > 0) {
        left -= 1;
        const ident = idents[next];
        next = (next + 1) % idents.length;
        await turn(ident);
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, task));
  };
}

import { StateToken } from 'nestjs-state';
import { compare, effort } from '../harness.mjs';
import { floor, mutexAndCacheManager, mutexAndLru } from '../peers/memory.mjs';
import { atLeast, comparison, gainOf } from '../support/report.mjs';
import { openStates, plainVisitor, totalOf, visitSlowly, VisitorState } from '../support/states.mjs';

const TASKS = 64;
const IDENT = 'everybody';

export const title = 'Memory turn, 64 tasks on one ident';

export async function run({ isQuick }) {
  const { states, close } = await openStates({ mode: 'memory' });
  try {
    const ours = {
      name: 'nestjs-state',
      run: manyTasks(() => states.modifyState(new StateToken(IDENT, VisitorState), visitSlowly)),
      total: () => totalOf(states, [IDENT]),
    };
    const outcomes = await compare(
      [
        ours,
        peer('floor: Map + minimal lock, no rollback', floor(plainVisitor)),
        peer('async-mutex + lru-cache, no rollback', mutexAndLru(plainVisitor, TASKS)),
        peer('async-mutex + lru-cache + structuredClone', mutexAndLru(plainVisitor, TASKS, structuredClone)),
        peer('async-mutex + cache-manager', mutexAndCacheManager(plainVisitor)),
      ],
      effort(isQuick),
    );
    return {
      tables: [comparison(outcomes)],
      goals: [
        atLeast('over async-mutex + lru-cache', gainOf(outcomes, 'async-mutex + lru-cache, no rollback'), 1),
      ],
      notes: ['No update was lost by any of them.'],
    };
  } finally {
    await close();
  }
}

function peer(name, { modify, read }) {
  return {
    name,
    run: manyTasks(() => modify(IDENT, visitSlowly)),
    total: async () => (await read(IDENT)).count,
  };
}

function manyTasks(turn) {
  return async (count) => {
    let left = count;
    const task = async () => {
      while (left > 0) {
        left -= 1;
        await turn();
      }
    };
    await Promise.all(Array.from({ length: TASKS }, task));
  };
}

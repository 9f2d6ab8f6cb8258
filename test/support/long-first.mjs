import module from '@jest/test-sequencer';

const Sequencer = module.default ?? module;
const isLong = ({ path }) => path.endsWith('.conformance.spec.ts');

/**
 * Where it has seen no run yet, jest begins with the largest files. Those that take longest are among the shortest here:
 * they run the whole conformance suite, and begun last they would keep everybody waiting.
 */
export default class LongFirst extends Sequencer {
  sort(tests) {
    const sorted = super.sort(tests);
    return [...sorted.filter(isLong), ...sorted.filter((test) => !isLong(test))];
  }
}

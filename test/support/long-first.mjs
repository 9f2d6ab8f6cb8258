import module from '@jest/test-sequencer';

const Sequencer = module.default ?? module;
const isLong = ({ path }) => /\.conformance\.spec\.ts$|[\\/]e2e[\\/]redis[\\/]/.test(path);

/**
 * Where it has seen no run yet, jest begins with the largest files. Those that take longest are among the shortest here:
 * they run what other files hold, and begun last they would keep everybody waiting.
 */
export default class LongFirst extends Sequencer {
  sort(tests) {
    const sorted = super.sort(tests);
    return [...sorted.filter(isLong), ...sorted.filter((test) => !isLong(test))];
  }
}

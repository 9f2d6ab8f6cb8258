export { StateTestingClock } from './testing/state-testing.clock.js';
export { StateTestingModule, type StateTestingOptions } from './testing/state-testing.module.js';
export { StateTesting } from './testing/state-testing.js';

import { keepStatesOnDisk } from '../../support/app-disk.js';

keepStatesOnDisk();
// Everything it says of states in memory is true of states on disk too.
await import('../session.e2e-spec.js');

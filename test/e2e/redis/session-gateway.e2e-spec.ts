import { keepStatesInRedis } from '../../support/app-redis.js';

keepStatesInRedis();
// Everything it says of states in memory is true of states on a server too.
await import('../session-gateway.e2e-spec.js');

import * as fc from 'fast-check';
import { beforeEach, describe, it } from '@jest/globals';
import { RecordedLogs } from '../../support/manager-logs.js';
import { runProgram } from './model.js';
import { program } from './model.program.js';

/** Give the seed that a failure prints to run it again: `MODEL_SEED=123 npm test`. */
const SEED = process.env['MODEL_SEED'];
const RUNS = Number(process.env['MODEL_RUNS'] ?? 150);

describe('a manager and a plain model of it', () => {
  beforeEach(() => {
    RecordedLogs.start();
  });

  it('agree on every result, event and number, whatever is done in whatever order', async () => {
    await fc.assert(fc.asyncProperty(program, runProgram), {
      numRuns: RUNS,
      ...(SEED !== undefined && { seed: Number(SEED) }),
    });
  }, 60_000);
});

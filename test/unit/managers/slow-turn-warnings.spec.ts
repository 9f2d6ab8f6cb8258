import { beforeEach, describe, expect, it } from '@jest/globals';
import { State, StateToken } from 'nestjs-state';
import { FakeClock } from '../../support/fake-clock.js';
import { RecordedLogs } from '../../support/manager-logs.js';
import { openMemoryManager } from '../../support/manager-memory.js';

@State('slow')
class SlowState {
  count = 0;
}

const setUp = async () => {
  const clock = new FakeClock();
  const manager = await openMemoryManager({ lockWarningThreshold: 100, maxHold: '1h' }, clock);
  const run = (heldMs: number, label?: string, failure?: Error): Promise<void> =>
    manager.modifyState(
      new StateToken('secret-ident', SlowState),
      async () => {
        await clock.advance(heldMs);
        if (failure !== undefined) throw failure;
      },
      { ...(label !== undefined && { label }) },
    );
  return { clock, run };
};

describe('warnings of slow turns', () => {
  let logs: RecordedLogs;
  beforeEach(() => {
    logs = RecordedLogs.start();
  });

  it('are for turns that held their lock longer than the threshold, and name them', async () => {
    const { run } = await setUp();
    await run(100);
    expect(logs.warnings).toStrictEqual([]);
    await run(150, 'Reports.slow');

    expect(logs.warnings).toHaveLength(1);
    expect(logs.warnings[0]).toMatch(
      /slow \(Reports\.slow\) held its lock for 150 ms.*`lockWarningThreshold` \(100 ms\)/,
    );
    expect(logs.warnings[0]).not.toContain('secret');
  });

  it('come once a minute for each handler', async () => {
    const { clock, run } = await setUp();
    for (let round = 0; round < 10; round += 1) {
      await run(200, 'A');
      await run(200, 'B');
    }
    expect(logs.warnings).toHaveLength(2);
    await clock.advance(60_000);
    await run(200, 'A');
    await run(200, 'A');

    expect(logs.warnings).toHaveLength(3);
  });

  it('come for turns that fail, too', async () => {
    const { run } = await setUp();
    await expect(run(200, 'A', new Error('refused'))).rejects.toThrow('refused');

    expect(logs.warnings).toHaveLength(1);
  });

  it('the memory of them is bounded, also when labels are made of data', async () => {
    const { run } = await setUp();
    for (let index = 0; index < 1_200; index += 1) await run(101, `label ${index}`);

    expect(logs.warnings).toHaveLength(1_200);
  });
});

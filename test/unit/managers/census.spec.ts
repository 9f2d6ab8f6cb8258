import { describe, expect, it } from '@jest/globals';
import { State, StateToken } from 'nestjs-state';
import { DiskFolder } from '../../support/disk-folder.js';
import { FakeClock } from '../../support/fake-clock.js';
import { openDiskManager } from '../../support/manager-disk.js';
import { openMemoryManager } from '../../support/manager-memory.js';
import { openRedisManager } from '../../support/manager-redis.js';
import { RedisServer } from '../../support/redis-server.js';

@State('census.text')
class TextState {
  text = '';
}

const write = (ident: string, text: string) =>
  [
    new StateToken(ident, TextState),
    (state: TextState) => {
      state.text = text;
    },
  ] as const;

describe('A census', () => {
  it('counts all idents of this process, and measures some that are spread over them', async () => {
    const manager = await openMemoryManager();
    for (let index = 0; index < 5_000; index += 1)
      await manager.modifyState(...write(`ident-${index}`, 'x'.repeat(index < 2_500 ? 1 : 200)));
    const { idents, isEstimate, counted, measured, classes } = await manager.takeCensus(100);
    expect({ idents, isEstimate, counted, measured }).toEqual({
      idents: 5_000,
      isEstimate: false,
      counted: 5_000,
      measured: 100,
    });
    expect(classes).toMatchObject([{ name: 'census.text', count: 5_000, measured: 100 }]);
    // Half of them are large: a sample from one end would find all of them, or none.
    const each = (classes[0]?.bytes ?? 0) / 100;
    expect(each).toBeGreaterThan(80);
    expect(each).toBeLessThan(140);
    await manager.onModuleDestroy();
  });

  it('works in slices: whoever comes meanwhile does not wait for all of it', async () => {
    const manager = await openMemoryManager();
    for (let index = 0; index < 20_000; index += 1)
      await manager.modifyState(...write(`ident-${index}`, 'text'));
    let loopTurns = 0;
    const count = (): void => {
      loopTurns += 1;
      counting = setImmediate(count);
    };
    let counting = setImmediate(count);
    const { measured } = await manager.takeCensus(20_000);
    clearImmediate(counting);
    expect(measured).toBe(20_000);
    expect(loopTurns).toBeGreaterThan(2);
    await manager.onModuleDestroy();
  });

  it('keeps nothing alive', async () => {
    const clock = new FakeClock();
    const manager = await openMemoryManager({ expiration: 1_000 }, clock);
    await manager.modifyState(...write('ident', 'text'));
    await clock.advance(900);
    expect((await manager.takeCensus(10)).counted).toBe(1);
    await clock.advance(100);
    expect((await manager.takeCensus(10)).counted).toBe(0);
    await manager.onModuleDestroy();
  });

  it('sees on disk what is written there', async () => {
    await using folder = await DiskFolder.create();
    const manager = await openDiskManager(folder.path);
    await manager.modifyState(...write('ident', 'x'.repeat(1_000)));
    const { classes } = await manager.takeCensus(10);
    expect(classes).toMatchObject([{ name: 'census.text', count: 1, measured: 1 }]);
    expect(classes[0]?.bytes).toBeGreaterThan(1_000);
    await manager.onModuleDestroy();
  });

  it('looks at a bounded part of a Redis server, and reckons from that how many there are', async () => {
    await using server = await RedisServer.start();
    const client = server.connect();
    const others = server.connect({ keyPrefix: 'app:' });
    const manager = await openRedisManager({ redis: { client: others } });
    await manager.modifyState(...write('ident', 'x'.repeat(1_000)));
    const record = (await client.keys('app:state:*'))[0] as string;
    const fields = await client.hgetallBuffer(record);
    const filling = client.pipeline();
    for (let index = 0; index < 6_000; index += 1)
      filling.hset(`app:state:{${index.toString(16).padStart(40, '0')}}`, fields);
    for (let index = 0; index < 2_000; index += 1) filling.set(`something-else:${index}`, 'x');
    // Keys of that form which are not ours.
    filling.set('app:state:{something}', 'x');
    await filling.exec();
    const scansBefore = await server.commandCalls('scan');
    const pttl = await client.pttl(record);
    const { idents, isEstimate, counted, measured, classes } = await manager.takeCensus(200);
    expect((await server.commandCalls('scan')) - scansBefore).toBeLessThanOrEqual(3);
    expect(await client.pttl(record)).toBeLessThanOrEqual(pttl);
    expect(isEstimate).toBe(true);
    expect(idents).toBeGreaterThan(5_000);
    expect(idents).toBeLessThan(7_200);
    expect(counted).toBeGreaterThanOrEqual(199);
    expect(measured).toBe(counted);
    expect(classes).toMatchObject([{ name: 'census.text', count: counted, measured: counted }]);
    expect((classes[0]?.bytes ?? 0) / counted).toBeGreaterThan(1_000);
    await manager.onModuleDestroy();
  });
});

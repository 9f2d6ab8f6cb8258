import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, it } from '@jest/globals';
import { StateToken } from 'nestjs-state';
import { firstValueFrom, skip } from 'rxjs';
import { RIGHTS } from '../conformance/redis-guarded.js';
import { CounterState } from '../conformance/states.js';
import { openRedisManager } from '../support/manager-redis.js';
import { RedisServer } from '../support/redis-server.js';

it('the rights that the README names are those that are asked for, and nothing is refused to who has them', async () => {
  const readme = readFileSync(fileURLToPath(new URL('../../README.md', import.meta.url)), 'utf8');
  expect(readme).toContain(`\`${RIGHTS}\``);
  await using server = await RedisServer.start({
    users: ['user default off', `user app on >not-a-secret ${RIGHTS}`],
  });
  const url = `redis://app:not-a-secret@127.0.0.1:${server.port}`;
  const managers = [await openRedisManager({ redis: { url } }), await openRedisManager({ redis: { url } })];
  const [one, other] = managers as [(typeof managers)[0], (typeof managers)[0]];
  const tokens = ['a', 'b'].map((ident) => new StateToken(ident, CounterState));
  const [token] = tokens as [StateToken<CounterState>];
  const change = firstValueFrom(other.watch(token).pipe(skip(1)));
  await Promise.all(
    Array.from({ length: 40 }, (_, index) =>
      (index % 2 === 0 ? one : other).modifyState(token, (counter) => counter.increment()),
    ),
  );
  await one.modifyStates(tokens, (...states) => states.forEach((state) => state.increment()));
  await one.renameState('a', 'c');
  await one.deleteState('b');
  expect((await change).version).toBeGreaterThan(0);
  expect(await other.getState(new StateToken('c', CounterState))).toMatchObject({ count: 41 });
  expect(await other.count()).toBe(1);
  await Promise.all(managers.map((manager) => manager.onModuleDestroy()));

  const commands = (await server.info('commandstats'))
    .split('\r\n')
    .filter((line) => line.startsWith('cmdstat_'));
  expect(commands.length).toBeGreaterThan(15);
  const refused = commands.filter((line) => !line.includes('rejected_calls=0'));
  // ioredis tells the server its own name; nobody minds if that is not wanted.
  expect(refused.filter((line) => !line.startsWith('cmdstat_client|setinfo'))).toStrictEqual([]);
});

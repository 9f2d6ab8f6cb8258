import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { StateToken } from 'nestjs-state';
import { inParallel, until } from '../support/app-gate.js';
import { call, expectEntrySoon, expectIdle } from '../support/app-http.js';
import { connect, type TestSocket } from '../support/app-sockets.js';
import { CounterState } from '../support/app-states.js';
import {
  EventStream,
  WatchController,
  WatchGateway,
  watchersOf,
  type ToldChange,
} from '../support/app-watch.js';
import {
  HTTP_PLATFORMS,
  SOCKET_PLATFORMS,
  startApp,
  type HttpPlatform,
  type SocketPlatform,
  type TestApp,
} from '../support/app.js';

const COPIES = 10;
const PLATFORMS = HTTP_PLATFORMS.flatMap((platform) =>
  SOCKET_PLATFORMS.map((sockets): [HttpPlatform, SocketPlatform] => [platform, sockets]),
);

function told(reason: string, count: number, version = count): ToldChange {
  const patches =
    reason === 'current'
      ? [{ op: 'replace', path: '', value: { count } }]
      : [{ op: 'replace', path: '/count', value: count }];
  return { state: { count }, patches, version, reason };
}

describe.each(PLATFORMS)('A watched state (%s, %s)', (platform, sockets) => {
  let app: TestApp;
  let clients: TestSocket[] = [];
  let streams: EventStream[] = [];

  beforeAll(async () => {
    app = await startApp({ platform, sockets, controllers: [WatchController], providers: [WatchGateway] });
  });

  afterEach(async () => {
    for (const each of streams) each.leave();
    await Promise.all(clients.map((each) => each.close()));
    streams = [];
    clients = [];
  });

  afterAll(() => app.close());

  /** A client that has sent `event`, and reads the changes that it is answered with. */
  async function watch(token: string, event = 'watch') {
    const socket = await connect(app, sockets, token);
    clients.push(socket);
    socket.send(event, {});
    return { socket, next: () => socket.next<ToldChange>('counter') };
  }

  async function stream(token: string, path = '/stream') {
    const opened = await EventStream.open(app, path, token);
    streams.push(opened);
    return opened;
  }

  const increment = (token: string) => call(app, '/increment', { token });

  it('is told to SSE streams and sockets alike: what there is, and each commit of either way in', async () => {
    await inParallel(COPIES, async (index) => {
      const token = `both-${index}`;
      await increment(token);
      const watchers = [await stream(token), await watch(token)];
      for (const each of watchers) expect(await each.next()).toEqual(told('current', 1));
      await increment(token);
      await app.states.modifyState(new StateToken(token, CounterState), (counter) => counter.increment());
      await increment(token);
      for (const each of watchers)
        for (const count of [2, 3, 4]) expect(await each.next()).toEqual(told('committed', count));
    });
    await expectIdle(app);
  });

  it('is told to nobody else, and says so when it is deleted', async () => {
    const watchers = [await stream('gone'), await watch('gone'), await stream('other'), await watch('other')];
    for (const each of watchers) expect(await each.next()).toEqual(told('current', 0));
    await increment('gone');
    await app.states.deleteState('gone');
    await increment('other');
    for (const each of watchers.slice(0, 2)) {
      expect(await each.next()).toEqual(told('committed', 1));
      expect(await each.next()).toEqual(told('deleted', 0));
    }
    for (const each of watchers.slice(2)) expect(await each.next()).toEqual(told('committed', 1));
  });

  it('is watched no more when the client leaves, with or without saying so', async () => {
    await inParallel(COPIES, async (index) => {
      const token = `left-${index}`;
      const [events, closed, lost] = [await stream(token), await watch(token), await watch(token)];
      for (const each of [events, closed, lost]) expect(await each.next()).toEqual(told('current', 0));
      expect(watchersOf(token)).toBe(3);
      events.leave();
      await closed.socket.close();
      await until(() => watchersOf(token) === 1, 'one watcher');
      await increment(token);
      expect(await lost.next()).toEqual(told('committed', 1));
      lost.socket.terminate();
      await until(() => watchersOf(token) === 0, 'no watcher');
      expect((await increment(token)).body).toEqual({ count: 2 });
    });
    await expectIdle(app);
  });

  it('leaves the lock as soon as the watching has begun where the handler has changed it as well', async () => {
    await inParallel(COPIES, async (index) => {
      const token = `changed-${index}`;
      // The look at what there is may see the state before the handler's own commit, or that commit.
      for (const [round, open] of [
        () => stream(token, '/increment-and-stream'),
        () => watch(token, 'increment-and-watch'),
      ].entries()) {
        const each = await open();
        const before = 2 * round;
        let change = await each.next();
        expect(change).toMatchObject({ reason: 'current' });
        if (change.version === before) change = await each.next();
        expect(change).toMatchObject({ state: { count: before + 1 }, version: before + 1 });
        await expectEntrySoon(app, token);
        expect((await increment(token)).body).toEqual({ count: before + 2 });
        expect(await each.next()).toEqual(told('committed', before + 2));
      }
    });
    await expectIdle(app);
  });

  it('ends its streams with the application', async () => {
    const own = await startApp({
      platform,
      sockets,
      controllers: [WatchController],
      providers: [WatchGateway],
    });
    const events = await EventStream.open(own, '/stream', 'closing');
    const socket = await connect(own, sockets, 'closing');
    socket.send('watch', {});
    expect([await events.next(), await socket.next('counter')]).toEqual([
      told('current', 0),
      told('current', 0),
    ]);
    await own.close();
    await until(() => watchersOf('closing') === 0, 'no watcher');
    await socket.close();
  });
});

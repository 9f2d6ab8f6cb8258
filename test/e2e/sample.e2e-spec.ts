import { cp, mkdtemp, readdir, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { io, type Socket } from 'socket.io-client';
import { answers, ServerProcess } from '../support/process.js';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const EXPIRATION_MS = 2_000;
const INSPECTOR_TOKEN = 'of-this-test';
const ENVIRONMENT = {
  STATE_MANAGER_MODE: 'memory',
  STATE_TOKEN_EXPIRATION: `${EXPIRATION_MS}ms`,
  STATE_INSPECTOR_TOKEN: INSPECTOR_TOKEN,
};

interface Answer {
  count: number;
  token: string;
  expiresInMs: number;
}

let tokens = 0;
const newToken = () => `sample-${process.pid}-${(tokens += 1)}`;

const startSample = () =>
  ServerProcess.start(process.execPath, { args: ['dist-sample/main.js'], cwd: ROOT, env: ENVIRONMENT });

async function call(
  server: ServerProcess,
  method: 'GET' | 'POST',
  headers: Record<string, string>,
): Promise<{ status: number; body: Answer; cookies: string[] }> {
  const path = method === 'GET' ? '/counter' : '/counter/increment';
  const response = await fetch(server.url + path, { method, headers });
  return {
    status: response.status,
    body: (await response.json()) as Answer,
    cookies: response.headers.getSetCookie(),
  };
}

async function increment(server: ServerProcess, token: string): Promise<Answer> {
  const { status, body } = await call(server, 'POST', { 'x-state-token': token });
  expect(status).toBeGreaterThanOrEqual(200);
  expect(status).toBeLessThan(300);
  return body;
}

const emitIncrement = (socket: Socket): Promise<Answer> =>
  socket.timeout(5_000).emitWithAck('increment', {}) as Promise<Answer>;

describe('The sample', () => {
  let server: ServerProcess;
  const sockets: Socket[] = [];

  beforeAll(async () => {
    server = await startSample();
  }, 60_000);

  afterAll(async () => {
    for (const socket of sockets) socket.disconnect();
    await server?.[Symbol.asyncDispose]();
  });

  function connect(options: Parameters<typeof io>[1]): Socket {
    const socket = io(server.url, { transports: ['websocket'], reconnection: false, ...options });
    sockets.push(socket);
    return socket;
  }

  it('counts 1 and 2 for two increments with the same token', async () => {
    const token = newToken();
    expect(await increment(server, token)).toEqual({ count: 1, token, expiresInMs: EXPIRATION_MS });
    expect(await increment(server, token)).toEqual({ count: 2, token, expiresInMs: EXPIRATION_MS });
  });

  it('keeps the counters of different tokens apart', async () => {
    const [one, other] = [newToken(), newToken()];
    await increment(server, one);
    await increment(server, one);
    expect(await increment(server, other)).toMatchObject({ count: 1, token: other });
  });

  it('shows the counter without changing it', async () => {
    const token = newToken();
    await increment(server, token);
    for (let read = 0; read < 3; read += 1) {
      const { status, body } = await call(server, 'GET', { 'x-state-token': token });
      expect(status).toBe(200);
      expect(body).toEqual({ count: 1, token, expiresInMs: EXPIRATION_MS });
    }
  });

  it('issues a token in an HttpOnly cookie, and knows the client by it', async () => {
    const first = await call(server, 'GET', {});
    expect(first.body).toEqual({ count: 0, token: expect.any(String), expiresInMs: EXPIRATION_MS });
    expect(first.cookies).toHaveLength(1);
    expect(first.cookies[0]).toMatch(/; HttpOnly/);
    expect(first.cookies[0]).toMatch(/; SameSite=Lax/);
    const cookie = first.cookies[0]!.split(';')[0]!;
    expect((await call(server, 'POST', { cookie })).body).toMatchObject({
      count: 1,
      token: first.body.token,
    });
    const second = await call(server, 'POST', { cookie });
    expect(second.body).toMatchObject({ count: 2, token: first.body.token });
    expect(second.cookies).toEqual([]);
  });

  it('acknowledges a socket.io increment with the same answer', async () => {
    const token = newToken();
    const socket = connect({ auth: { token } });
    expect(await emitIncrement(socket)).toEqual({ count: 1, token, expiresInMs: EXPIRATION_MS });
    expect(await increment(server, token)).toMatchObject({ count: 2 });
    expect(await emitIncrement(socket)).toEqual({ count: 3, token, expiresInMs: EXPIRATION_MS });
  });

  it('knows a socket by the cookie of its handshake', async () => {
    const { body, cookies } = await call(server, 'POST', {});
    const socket = connect({ extraHeaders: { cookie: cookies[0]!.split(';')[0]! } });
    expect(await emitIncrement(socket)).toMatchObject({ count: 2, token: body.token });
  });

  it('tells a socket without a token so', async () => {
    const socket = connect({});
    const told = new Promise<unknown>((resolve) => socket.once('exception', resolve));
    socket.emit('increment', {});
    expect(await told).toMatchObject({ status: 'error', statusCode: 401 });
  });

  it('tells every socket that watches a counter of its increments, and nobody of the token', async () => {
    const token = newToken();
    const [one, other, stranger] = [token, token, newToken()].map((own) => connect({ auth: { token: own } }));
    const told: { count: number }[] = [];
    const strange: unknown[] = [];
    stranger!.on('counter', (news: unknown) => strange.push(news));
    const watching = [one!, other!, stranger!].map((socket) =>
      socket.timeout(5_000).emitWithAck('watch', {}),
    );
    expect(await watching[0]).toEqual({ count: 0, token, expiresInMs: EXPIRATION_MS });
    await Promise.all(watching);
    const both = Promise.all(
      [one!, other!].map(
        (socket) =>
          new Promise<void>((resolve) =>
            socket.on('counter', (news: { count: number }) => {
              told.push(news);
              if (news.count === 2) resolve();
            }),
          ),
      ),
    );
    await increment(server, token);
    await emitIncrement(one!);
    await both;
    expect(told.toSorted((a, b) => a.count - b.count)).toEqual(
      [1, 1, 2, 2].map((count) => ({ count, expiresInMs: EXPIRATION_MS })),
    );
    expect(strange).toEqual([]);
  });

  it('loses none of many increments over both ways at once', async () => {
    const token = newToken();
    const socket = connect({ auth: { token } });
    const counts = await Promise.all(
      Array.from({ length: 100 }, async (_, index) => {
        const answer = index % 2 === 0 ? await increment(server, token) : await emitIncrement(socket);
        return answer.count;
      }),
    );
    expect(counts.toSorted((a, b) => a - b)).toEqual(Array.from({ length: 100 }, (_, index) => index + 1));
  });

  it('starts at 1 again with the same token once the state was idle for its time', async () => {
    const token = newToken();
    await increment(server, token);
    expect(await increment(server, token)).toMatchObject({ count: 2 });
    await delay(EXPIRATION_MS + 250);
    expect(await increment(server, token)).toEqual({ count: 1, token, expiresInMs: EXPIRATION_MS });
  });

  it('keeps a state alive that is used within its idle time', async () => {
    const token = newToken();
    for (let count = 1; count <= 4; count += 1) {
      expect(await increment(server, token)).toMatchObject({ count, token });
      await delay(EXPIRATION_MS * 0.4);
    }
  });

  it('answers 400 to a malformed token', async () => {
    const { status } = await call(server, 'POST', { 'x-state-token': 'x'.repeat(257) });
    expect(status).toBe(400);
  });

  it('shows its inside to whom has the token for it', async () => {
    for (const query of ['', '?token=', '?token=another', `?token=${INSPECTOR_TOKEN}&token=another`])
      for (const path of ['/states', '/states/data', '/states/page.js'])
        expect((await fetch(server.url + path + query)).status).toBe(404);
    const page = await (await fetch(`${server.url}/states?token=${INSPECTOR_TOKEN}`)).text();
    const script = /src="\.(.*?page\.js.*?)"/.exec(page)?.[1] ?? '';
    expect(await (await fetch(server.url + script)).text()).toContain('import.meta.url');
    expect(await (await fetch(`${server.url}/states/data?token=${INSPECTOR_TOKEN}`)).json()).toMatchObject({
      mode: 'memory',
    });
  });

  it('serves its page and the socket.io client', async () => {
    const page = await fetch(server.url);
    expect(page.status).toBe(200);
    expect(page.headers.get('content-type')).toMatch(/^text\/html/);
    expect(await page.text()).toContain('id="ws-increment"');
    const client = await fetch(`${server.url}/socket.io/socket.io.js`);
    expect(client.status).toBe(200);
    await client.arrayBuffer();
  });
});

describe('The process of the sample', () => {
  it.each(['SIGTERM', 'SIGINT'] as const)(
    'ends within seconds on %s, with states and sockets still open',
    async (signal) => {
      await using server = await startSample();
      const token = newToken();
      await increment(server, token);
      const socket = io(server.url, {
        transports: ['websocket'],
        reconnection: false,
        auth: { token },
      });
      try {
        await socket.timeout(5_000).emitWithAck('increment', {});
        const { code, signal: endedBy } = await server.end(signal, 5_000);
        // Nest ends the process by the same signal once everything is closed.
        expect([code, endedBy]).toEqual([null, signal]);
      } finally {
        socket.disconnect();
      }
      expect(await answers(server.url)).toBe(false);
    },
    60_000,
  );

  it('is built and served by `npm start`, and ends with it', async () => {
    // In a copy: the build begins by removing what the tests beside this one are using.
    const copy = await mkdtemp(join(tmpdir(), 'nestjs-state-start-'));
    try {
      const sources = ['lib', 'sample', ...(await readdir(ROOT)).filter((file) => file.endsWith('.json'))];
      await Promise.all(sources.map((file) => cp(join(ROOT, file), join(copy, file), { recursive: true })));
      await symlink(join(ROOT, 'node_modules'), join(copy, 'node_modules'));
      await using server = await ServerProcess.start('npm', {
        args: ['start'],
        cwd: copy,
        env: { STATE_MANAGER_MODE: 'memory' },
        ownGroup: true,
      });
      const token = newToken();
      expect(await increment(server, token)).toEqual({ count: 1, token, expiresInMs: 3_600_000 });
      await server.end('SIGTERM', 10_000);
      await server.whenGroupIsGone(5_000);
      expect(await answers(server.url)).toBe(false);
    } finally {
      await rm(copy, { recursive: true, force: true });
    }
  }, 180_000);

  it('counts on after a restart, and after it was killed, with its states on disk', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'nestjs-state-sample-'));
    const start = (): Promise<ServerProcess> =>
      ServerProcess.start(process.execPath, {
        args: ['dist-sample/main.js'],
        cwd: ROOT,
        env: { STATE_MANAGER_MODE: 'disk', STATE_DISK_PATH: folder },
      });
    try {
      const token = newToken();
      const counts: unknown[] = [];
      for (const signal of ['SIGTERM', 'SIGKILL', 'SIGTERM'] as const) {
        await using server = await start();
        counts.push((await increment(server, token)).count, (await increment(server, token)).count);
        await server.end(signal, 10_000);
      }
      expect(counts).toEqual([1, 2, 3, 4, 5, 6]);
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  }, 60_000);

  it('refuses to start with a manager that does not exist', async () => {
    const starting = ServerProcess.start(process.execPath, {
      args: ['dist-sample/main.js'],
      cwd: ROOT,
      env: { STATE_MANAGER_MODE: 'sqlite' },
    }).then(async (server) => {
      await server[Symbol.asyncDispose]();
      return 'started';
    });
    await expect(starting).rejects.toThrow(/STATE_MANAGER_MODE: "sqlite".*memory, redis, disk/);
  }, 60_000);
});

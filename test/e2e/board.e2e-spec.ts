import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { Browser, BrowserContext, Page } from 'playwright-core';
import { io, type Socket } from 'socket.io-client';
import { DESKTOP, launchBrowser } from '../support/browser.js';
import { ServerProcess } from '../support/process.js';
import { RedisServer, until } from '../support/redis-server.js';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const EXPIRATION_MS = 5_000;
const PHONE = { width: 390, height: 844 };
const SECRET = 'a-secret-of-this-test';

let rooms = 0;
const newRoom = () => `room-${process.pid}-${(rooms += 1)}`;

/** The page of a board in a tab, and everything the browser complained about in it. */
class BoardPage {
  readonly complaints: string[] = [];

  private constructor(readonly page: Page) {
    page.on('console', (message) => {
      if (message.type() === 'error' || message.type() === 'warning') this.complaints.push(message.text());
    });
    page.on('pageerror', (error) => this.complaints.push(String(error)));
    page.on('response', (response) => {
      if (response.status() >= 400) this.complaints.push(`${response.status()} ${response.url()}`);
    });
  }

  static async open(context: BrowserContext, url: string, room: string): Promise<BoardPage> {
    const board = new BoardPage(await context.newPage());
    await board.page.goto(`${url}/board?room=${room}`);
    await board.whenLive();
    return board;
  }

  async whenLive(): Promise<void> {
    await this.page.locator('#status[data-state="on"]').waitFor();
  }

  /** One stroke with the mouse: where it begins, and how it goes on. Shares of the board. */
  async draw(...points: readonly (readonly [number, number])[]): Promise<void> {
    const box = await this.page.locator('#board').boundingBox();
    if (box === null) throw new Error('The board is not shown.');
    for (const [index, [x, y]] of points.entries()) {
      await this.page.mouse.move(box.x + x * box.width, box.y + y * box.height);
      if (index === 0) await this.page.mouse.down();
    }
    await this.page.mouse.up();
  }

  /** Many strokes like that, as fast as the page takes them: with a mouse it would take a minute. */
  async drawAll(
    strokes: readonly (readonly [from: [number, number], to: [number, number]])[],
  ): Promise<void> {
    await this.page.evaluate(async (all) => {
      interface Board {
        getBoundingClientRect(): { left: number; top: number; width: number; height: number };
        dispatchEvent(event: unknown): void;
      }
      const { document, PointerEvent } = globalThis as unknown as {
        document: { getElementById(id: string): Board };
        PointerEvent: new (type: string, init: object) => unknown;
      };
      const board = document.getElementById('board');
      const { left, top, width, height } = board.getBoundingClientRect();
      for (const [from, to] of all) {
        for (const [type, [x, y]] of [
          ['pointerdown', from],
          ['pointermove', to],
          ['pointerup', to],
        ] as const) {
          const [clientX, clientY] = [left + x * width, top + y * height];
          board.dispatchEvent(new PointerEvent(type, { pointerId: 1, clientX, clientY, bubbles: true }));
        }
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
    }, strokes);
  }

  /** What is on the board, stroke by stroke, in its order. */
  picture(): Promise<string[]> {
    return this.page
      .locator('#strokes polyline')
      .evaluateAll((lines) => lines.map((line) => (line as unknown as { outerHTML: string }).outerHTML));
  }

  async whenStrokesAre(count: number): Promise<void> {
    await until(
      `${count} strokes`,
      async () =>
        (await this.page.locator('#strokes polyline').count()) === count &&
        (await this.page.locator('#pending polyline').count()) === 0,
    );
  }

  async whenMembersAre(count: number): Promise<string[]> {
    const members = this.page.locator('#members li');
    await until(`${count} members`, async () => (await members.count()) === count, 60_000);
    return members.allTextContents();
  }

  error(): Promise<string | null> {
    return this.page.locator('#error').textContent();
  }
}

/** What it is told of a message: an answer, or what is wrong with it. */
function answerOf(socket: Socket, event: string, message: unknown): Promise<unknown> {
  return new Promise((resolve) => {
    socket.once('exception', ({ message: text }: { message: string }) => resolve(text));
    socket.emit(event, message, (answer: unknown) => {
      socket.off('exception');
      resolve(answer);
    });
  });
}

/** The last strokes may be on their way to those who have not drawn them. */
async function whenSame(tabs: readonly BoardPage[]): Promise<string[][]> {
  let pictures: string[][] = [];
  await until('the same picture in all tabs', async () => {
    pictures = await Promise.all(tabs.map((tab) => tab.picture()));
    return pictures.every((picture) => picture.join() === pictures[0]?.join());
  });
  return pictures;
}

describe('The board of the sample', () => {
  let redis: RedisServer;
  let servers: ServerProcess[];
  let forgetful: ServerProcess;
  let browser: Browser;
  let context: BrowserContext;
  const sockets: Socket[] = [];

  const startOne = (env: Record<string, string> = {}) =>
    ServerProcess.start(process.execPath, {
      args: ['dist-sample/main.js'],
      cwd: ROOT,
      env: { STATE_REDIS_URL: redis.url, ...env },
    });
  const urlOf = (index: number) => servers[index]?.url as string;

  beforeAll(async () => {
    redis = await RedisServer.start();
    [servers, forgetful, browser] = await Promise.all([
      Promise.all([startOne(), startOne()]),
      startOne({ STATE_TOKEN_EXPIRATION: `${EXPIRATION_MS}ms`, STATE_REDIS_KEY_PREFIX: 'forgetful:' }),
      launchBrowser(),
    ]);
    context = await browser.newContext({ viewport: DESKTOP });
  }, 120_000);

  afterAll(async () => {
    for (const socket of sockets) socket.disconnect();
    await browser?.close();
    for (const server of [...(servers ?? []), forgetful]) await server?.[Symbol.asyncDispose]();
    await redis?.[Symbol.asyncDispose]();
  });

  /** A client of our own making. */
  async function connect(auth: object): Promise<Socket> {
    const socket = io(`${urlOf(0)}/board`, {
      transports: ['websocket'],
      reconnection: false,
      forceNew: true,
      auth,
    });
    sockets.push(socket);
    await new Promise<void>((resolve, reject) => {
      socket.once('me', () => resolve());
      socket.once('connect_error', reject);
    });
    return socket;
  }

  it('shows 200 strokes of two tabs on two processes in one order in both, and none is lost', async () => {
    const room = newRoom();
    const tabs = [
      await BoardPage.open(context, urlOf(0), room),
      await BoardPage.open(context, urlOf(1), room),
    ];
    for (const tab of tabs) {
      const members = await tab.whenMembersAre(2);
      expect(members.filter((text) => text.endsWith('you'))).toHaveLength(1);
    }
    await Promise.all(
      tabs.map((tab, which) =>
        tab.drawAll(
          Array.from({ length: 100 }, (_, stroke) => {
            const [x, y] = [0.05 + (stroke % 10) * 0.09, 0.05 + Math.floor(stroke / 10) * 0.09];
            return [
              [x, y],
              [which === 0 ? x + 0.06 : x, y + 0.06],
            ];
          }),
        ),
      ),
    );
    for (const tab of tabs) await tab.whenStrokesAre(200);
    const pictures = await whenSame(tabs);
    expect(new Set(pictures[0]).size).toBe(200);
    const colours = pictures[0]!.map((line) => /stroke="(.*?)"/.exec(line)?.[1]);
    expect(new Set(colours).size).toBe(2);
    // They drew at the same time: the strokes of neither come all before those of the other.
    expect(colours.indexOf(colours[199])).toBeLessThan(100);
    // A page that comes later sees the same.
    const late = await BoardPage.open(context, urlOf(1), room);
    await late.whenStrokesAre(200);
    expect(await late.picture()).toEqual(pictures[0]);
    for (const tab of [...tabs, late]) {
      expect(await tab.error()).toBe('');
      expect(tab.complaints).toEqual([]);
      await tab.page.close();
    }
  }, 120_000);

  it('shows who is there, and where they point, until they leave', async () => {
    const room = newRoom();
    const one = await BoardPage.open(context, urlOf(0), room);
    const other = await BoardPage.open(context, urlOf(1), room);
    await Promise.all([one.whenMembersAre(2), other.whenMembersAre(2)]);
    let x = 300;
    await until('a cursor', async () => {
      await other.page.mouse.move((x += 1), 300);
      return (await one.page.locator('#cursors g text').count()) === 1;
    });
    expect(await one.whenMembersAre(2)).toContain(await one.page.locator('#cursors text').textContent());
    await other.page.close();
    expect(await one.whenMembersAre(1)).toEqual([expect.stringMatching(/you$/)]);
    expect(await one.page.locator('#cursors g').count()).toBe(0);
    expect(one.complaints).toEqual([]);
    await one.page.close();
  });

  it('forgets those whose process was killed', async () => {
    const room = newRoom();
    // Its own pace: it is not told of the end of the other process, and finds it out.
    const env = { STATE_REDIS_KEY_PREFIX: 'killed:', STATE_TOKEN_EXPIRATION: '6s' };
    await using stays = await startOne(env);
    await using dies = await startOne(env);
    const one = await BoardPage.open(context, stays.url, room);
    const other = await BoardPage.open(context, dies.url, room);
    await one.whenMembersAre(2);
    await dies.end('SIGKILL', 5_000);
    expect(await one.whenMembersAre(1)).toEqual([expect.stringMatching(/you$/)]);
    await other.page.close();
    expect(one.complaints).toEqual([]);
    await one.page.close();
  }, 120_000);

  it('goes on after a lost connection as the same member, with what was drawn meanwhile, once', async () => {
    const room = newRoom();
    const own = await browser.newContext({ viewport: DESKTOP });
    let cut: (() => Promise<void>) | undefined;
    await own.routeWebSocket(/socket\.io/, (route) => {
      const server = route.connectToServer();
      cut = async () => {
        await Promise.all([route.close(), server.close()]);
      };
    });
    try {
      const one = await BoardPage.open(own, urlOf(0), room);
      const other = await BoardPage.open(context, urlOf(1), room);
      const members = await other.whenMembersAre(2);
      await one.draw([0.1, 0.1], [0.2, 0.2]);
      await other.whenStrokesAre(1);
      await until('a web socket', () => Promise.resolve(cut !== undefined));
      await cut?.();
      await one.page.locator('#status[data-state="off"]').waitFor();
      await one.drawAll([
        [
          [0.3, 0.1],
          [0.4, 0.2],
        ],
      ]);
      await other.draw([0.5, 0.1], [0.6, 0.2]);
      await one.whenLive();
      for (const tab of [one, other]) await tab.whenStrokesAre(3);
      const [picture] = await whenSame([one, other]);
      expect(new Set(picture).size).toBe(3);
      expect(await other.whenMembersAre(2)).toEqual(expect.arrayContaining(members));
      await one.page.locator('#undo').click();
      await other.whenStrokesAre(2);
      await other.page.close();
    } finally {
      await own.close();
    }
  });

  it('is empty in every tab when it was idle for its time, though all of them look at it', async () => {
    const room = newRoom();
    const tabs = [
      await BoardPage.open(context, forgetful.url, room),
      await BoardPage.open(context, forgetful.url, room),
    ];
    await tabs[0]!.draw([0.2, 0.2], [0.4, 0.4]);
    for (const tab of tabs) await tab.whenStrokesAre(1);
    for (const tab of tabs) await tab.whenStrokesAre(0);
    for (const tab of tabs) {
      expect(await tab.page.locator('#hint').textContent()).toContain('begins anew');
      await tab.whenMembersAre(2);
    }
    await tabs[1]!.draw([0.2, 0.2], [0.4, 0.5]);
    for (const tab of tabs) {
      await tab.whenStrokesAre(1);
      expect(tab.complaints).toEqual([]);
      await tab.page.close();
    }
  });

  it('takes back what one has drawn last, and clears everything', async () => {
    const room = newRoom();
    const one = await BoardPage.open(context, urlOf(0), room);
    const other = await BoardPage.open(context, urlOf(1), room);
    await one.draw([0.1, 0.1], [0.2, 0.2]);
    await other.whenStrokesAre(1);
    await other.draw([0.3, 0.1], [0.4, 0.2]);
    await other.whenStrokesAre(2);
    const [, ofOther] = await other.picture();
    await one.whenStrokesAre(2);
    await one.page.locator('#undo').click();
    await other.whenStrokesAre(1);
    expect(await other.picture()).toEqual([ofOther]);
    await one.page.locator('#clear').click();
    for (const tab of [one, other]) {
      await tab.whenStrokesAre(0);
      expect(tab.complaints).toEqual([]);
      await tab.page.close();
    }
  });

  it('stores a part that is sent again once, and nothing that does not follow', async () => {
    const room = newRoom();
    const socket = await connect({ room, secret: SECRET });
    const part = { id: 'one', width: 4, at: 0, points: [1, 2, 3, 4] };
    expect(await answerOf(socket, 'draw', part)).toEqual({ isDrawn: true });
    expect(await answerOf(socket, 'draw', part)).toEqual({ isDrawn: true });
    expect(await answerOf(socket, 'draw', { ...part, at: 1, points: [3, 4, 5, 6] })).toEqual({
      isDrawn: true,
    });
    expect(await answerOf(socket, 'draw', { ...part, at: 7 })).toEqual({ isDrawn: false });
    const other = await connect({ room, secret: `${SECRET}-other` });
    // The stroke of somebody else.
    expect(await answerOf(other, 'draw', { ...part, at: 3 })).toEqual({ isDrawn: false });
    expect(await answerOf(other, 'undo', {})).toEqual({});
    const told = new Promise<{ state: { strokes: object[] } }>((resolve) => other.once('board', resolve));
    other.emit('watch:board', {});
    expect((await told).state.strokes).toEqual([
      expect.objectContaining({ id: 'one', points: [1, 2, 3, 4, 5, 6] }),
    ]);
  });

  it('sends nothing again to a page that has it all', async () => {
    const room = newRoom();
    const socket = await connect({ room, secret: SECRET });
    await answerOf(socket, 'draw', { id: 'one', width: 4, at: 0, points: [1, 2] });
    const whole = new Promise<{ version: number; state: { life: number } }>((resolve) =>
      socket.once('board', resolve),
    );
    socket.emit('watch:board', { version: 'x' });
    const { version, state } = await whole;
    const again = await connect({ room, secret: SECRET });
    const told: unknown[] = [];
    again.on('board', (change: unknown) => told.push(change));
    again.emit('watch:board', { version, life: state.life });
    await until('it is told', () => Promise.resolve(told.length > 0));
    expect(told).toEqual([{ version, reason: 'current', patches: [] }]);
    const stale = await connect({ room, secret: SECRET });
    const wholeAgain = new Promise((resolve) => stale.once('board', resolve));
    stale.emit('watch:board', { version, life: state.life - 1 });
    expect(await wholeAgain).toMatchObject({ version, reason: 'current', state });
  });

  it.each([
    [{}],
    [{ room: 'lobby' }],
    [{ room: 'Lobby', secret: SECRET }],
    [{ room: '../lobby', secret: SECRET }],
    [{ room: 'x'.repeat(33), secret: SECRET }],
    [{ room: ['lobby'], secret: SECRET }],
    [{ room: { toString: 'lobby' }, secret: SECRET }],
    [{ room: 'lobby', secret: 'short' }],
    [{ room: 'lobby', secret: 7 }],
  ])('lets nobody in who comes with %j', async (auth) => {
    await expect(connect(auth)).rejects.toThrow(/room|Reload/);
  });

  it('refuses what is no part of a stroke, and stores none of it', async () => {
    const room = newRoom();
    const socket = await connect({ room, secret: SECRET });
    const part = { id: 'one', width: 4, at: 0, points: [1, 2] };
    for (const message of [
      null,
      'text',
      [part],
      {},
      { ...part, id: '' },
      { ...part, id: 'x'.repeat(25) },
      { ...part, id: '<b>' },
      { ...part, id: { length: 3 } },
      { ...part, width: 5 },
      { ...part, width: '4' },
      { ...part, at: -1 },
      { ...part, at: 0.5 },
      { ...part, points: [] },
      { ...part, points: [1] },
      { ...part, points: [1, 2, 3] },
      { ...part, points: [1, 1_001] },
      { ...part, points: [-1, 2] },
      { ...part, points: [1, '2'] },
      { ...part, points: [1.5, 2] },
      { ...part, points: { length: 2, 0: 1, 1: 2 } },
      { ...part, points: Array.from({ length: 130 }, () => 1) },
    ])
      expect(await answerOf(socket, 'draw', message)).toEqual(expect.any(String));
    const told = new Promise((resolve) => socket.once('board', resolve));
    socket.emit('watch:board', null);
    expect(await told).toMatchObject({ version: 0, state: { strokes: [] } });
    expect(await answerOf(socket, 'watch:board', {})).toMatch(/already/);
  });

  it('takes so many messages at once and no more', async () => {
    const socket = await connect({ room: newRoom(), secret: SECRET });
    let refusals = 0;
    socket.on('exception', () => (refusals += 1));
    let undone = 0;
    for (let message = 0; message < 1_000; message += 1) socket.emit('undo', {}, () => (undone += 1));
    await until('all are answered', () => Promise.resolve(refusals + undone === 1_000), 30_000);
    expect(undone).toBeGreaterThanOrEqual(120);
    expect(refusals).toBeGreaterThan(500);
  });

  it.each([
    ['light', DESKTOP],
    ['dark', PHONE],
  ] as const)('fits its window, in %s colours', async (colorScheme, viewport) => {
    const isPhone = viewport === PHONE;
    const own = await browser.newContext({ viewport, colorScheme, isMobile: isPhone, hasTouch: isPhone });
    try {
      const tab = await BoardPage.open(own, urlOf(0), newRoom());
      await tab.draw([0.2, 0.2], [0.5, 0.4], [0.8, 0.2]);
      await tab.whenStrokesAre(1);
      const widths = await tab.page.evaluate(() => {
        const { document, innerWidth } = globalThis as unknown as {
          document: { documentElement: { scrollWidth: number } };
          innerWidth: number;
        };
        return [document.documentElement.scrollWidth, innerWidth];
      });
      expect(widths).toEqual([viewport.width, viewport.width]);
      for (const id of ['board', 'undo', 'clear']) {
        const box = await tab.page.locator(`#${id}`).boundingBox();
        expect(box?.height).toBeGreaterThanOrEqual(44);
        expect(box && box.y + box.height).toBeLessThanOrEqual(viewport.height);
      }
      await tab.page.getByRole('radio', { name: 'Broad' }).check();
      await tab.page.getByRole('link', { name: 'Counter' }).click();
      await tab.page.getByRole('link', { name: 'board' }).click();
      await tab.whenLive();
      expect(await tab.page.getByRole('textbox', { name: 'Room' }).inputValue()).toBe('lobby');
      expect(tab.complaints).toEqual([]);
    } finally {
      await own.close();
    }
  });
});

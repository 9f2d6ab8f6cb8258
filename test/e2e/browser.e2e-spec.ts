import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import type { Browser, BrowserContext } from 'playwright-core';
import { DESKTOP, launchBrowser, PHONE, SamplePage } from '../support/browser.js';
import { ServerProcess } from '../support/process.js';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const EXPIRATION_MS = 3_000;

const startSample = (expiration: string) =>
  ServerProcess.start(process.execPath, {
    args: ['dist-sample/main.js'],
    cwd: ROOT,
    env: { STATE_MANAGER_MODE: 'memory', STATE_TOKEN_EXPIRATION: expiration },
  });

describe('The page of the sample, in a browser', () => {
  let server: ServerProcess;
  /** The same with states that expire soon. */
  let forgetful: ServerProcess;
  let browser: Browser;
  let context: BrowserContext;

  beforeAll(async () => {
    [server, forgetful, browser] = await Promise.all([
      startSample('1h'),
      startSample(`${EXPIRATION_MS}ms`),
      launchBrowser(),
    ]);
  }, 120_000);

  afterAll(async () => {
    await browser?.close();
    await server?.[Symbol.asyncDispose]();
    await forgetful?.[Symbol.asyncDispose]();
  });

  beforeEach(async () => {
    context = await browser.newContext({ viewport: DESKTOP });
  });

  afterEach(async () => {
    await context.close();
  });

  it('counts over HTTP and over the socket, to 2 with one click on each', async () => {
    const tab = await SamplePage.open(context, server.url);
    expect(await tab.count()).toBe(0);
    expect(await tab.token()).toMatch(/^\S{16,}$/);
    await tab.incrementOverHttp();
    await tab.whenCountIs(1);
    await tab.incrementOverSocket();
    await tab.whenCountIs(2);
    expect(tab.complaints).toEqual([]);
  });

  it('shows the token read-only', async () => {
    const { page } = await SamplePage.open(context, server.url);
    expect(await page.locator('#token').isEditable()).toBe(false);
  });

  it('runs the bar down while idle, and fills it with each use', async () => {
    const tab = await SamplePage.open(context, forgetful.url);
    await tab.incrementOverHttp();
    await tab.whenCountIs(1);
    const shares: number[] = [await tab.idleShare()];
    for (let look = 0; look < 3; look += 1) {
      await tab.page.waitForTimeout(EXPIRATION_MS / 8);
      shares.push(await tab.idleShare());
    }
    expect(shares.toSorted((a, b) => b - a)).toEqual(shares);
    expect(shares.at(-1)).toBeLessThan(shares[0]! - 0.2);
    expect(await tab.page.locator('#expires-text').textContent()).toMatch(/^[0-2]\.\d s$/);
    await tab.incrementOverSocket();
    await tab.whenCountIs(2);
    expect(await tab.idleShare()).toBeGreaterThan(shares.at(-1)!);
  });

  it('says when the idle time ran out; the next increment starts at 1 with the same token', async () => {
    const tab = await SamplePage.open(context, forgetful.url);
    const token = await tab.token();
    await tab.clickAlternately(5);
    await tab.whenCountIs(5);
    expect(await tab.note()).toBe('');
    await tab.whenIdleTimeRanOut();
    expect(await tab.note()).toMatch(/reset.*next increment starts at 1 with the same token/);
    expect(await tab.idleShare()).toBe(0);
    // The page's clock starts when the answer arrives, so it is never ahead of the server's.
    await tab.incrementOverHttp();
    await tab.whenCountIs(1);
    expect(await tab.note()).toMatch(/was reset/);
    expect(await tab.token()).toBe(token);
    await tab.incrementOverSocket();
    await tab.whenCountIs(2);
    expect(await tab.note()).toBe('');
    expect(await tab.token()).toBe(token);
    expect(tab.complaints).toEqual([]);
  });

  it('asks the server nothing while idle', async () => {
    const tab = await SamplePage.open(context, forgetful.url);
    await tab.incrementOverHttp();
    await tab.whenCountIs(1);
    const requests: string[] = [];
    tab.page.on('request', (request) => requests.push(request.url()));
    await tab.whenIdleTimeRanOut();
    expect(requests).toEqual([]);
  });

  it('keeps a state alive past its idle time by using it', async () => {
    const tab = await SamplePage.open(context, forgetful.url);
    for (let count = 1; count <= 5; count += 1) {
      if (count % 2 === 0) await tab.incrementOverHttp();
      else await tab.incrementOverSocket();
      await tab.whenCountIs(count);
      expect(await tab.note()).toBe('');
      await tab.page.waitForTimeout(EXPIRATION_MS / 3);
    }
  });

  it('loses no click of two tabs that race each other over both ways', async () => {
    const clicks = 60;
    const one = await SamplePage.open(context, server.url);
    const other = await SamplePage.open(context, server.url);
    const token = await one.token();
    expect(await other.token()).toBe(token);
    await Promise.all([one.clickAlternately(clicks), other.clickAlternately(clicks)]);
    await Promise.all([one.whenCountIs(2 * clicks), other.whenCountIs(2 * clicks)]);
    const answer = await fetch(`${server.url}/counter`, { headers: { 'x-state-token': token } });
    expect(await answer.json()).toMatchObject({ count: 2 * clicks });
    expect([...one.complaints, ...other.complaints]).toEqual([]);
  });

  it('begins at 1 again in every open tab once the idle time ran out', async () => {
    const one = await SamplePage.open(context, forgetful.url);
    const other = await SamplePage.open(context, forgetful.url);
    await one.clickAlternately(3);
    await Promise.all([one.whenCountIs(3), other.whenCountIs(3)]);
    await Promise.all([one.whenIdleTimeRanOut(), other.whenIdleTimeRanOut()]);
    await one.incrementOverHttp();
    await Promise.all([one.whenCountIs(1), other.whenCountIs(1)]);
    expect(await other.note()).toMatch(/was reset/);
    expect(await other.idleShare()).toBeGreaterThan(0);
    await other.incrementOverSocket();
    await Promise.all([one.whenCountIs(2), other.whenCountIs(2)]);
    expect(await other.note()).toBe('');
    expect([...one.complaints, ...other.complaints]).toEqual([]);
  });

  it('shows what others did while its socket was lost', async () => {
    const tab = await SamplePage.open(context, server.url);
    const headers = { 'x-state-token': await tab.token() };
    await context.setOffline(true);
    await tab.page.locator('#socket[data-state="off"]').waitFor();
    await fetch(`${server.url}/counter/increment`, { method: 'POST', headers });
    expect(await tab.count()).toBe(0);
    await context.setOffline(false);
    await tab.whenCountIs(1);
    await tab.page.locator('#socket[data-state="on"]').waitFor();
  });

  it('shares a counter by its address with a browser that has never been here', async () => {
    const one = await SamplePage.open(context, server.url);
    await one.incrementOverHttp();
    await one.whenCountIs(1);
    const address = await one.page
      .locator('#share')
      .evaluate((link) => (link as unknown as { href: string }).href);
    const elsewhere = await browser.newContext({ viewport: DESKTOP });
    try {
      const other = await SamplePage.open(elsewhere, address);
      expect(await other.token()).toBe(await one.token());
      await other.whenCountIs(1);
      await other.incrementOverSocket();
      await other.whenCountIs(2);
    } finally {
      await elsewhere.close();
    }
  });

  it('knows the client after a reload', async () => {
    const tab = await SamplePage.open(context, server.url);
    const token = await tab.token();
    await tab.incrementOverSocket();
    await tab.whenCountIs(1);
    await tab.page.reload();
    await tab.page.locator('#socket[data-state="on"]').waitFor();
    await tab.whenCountIs(1);
    expect(await tab.token()).toBe(token);
  });

  it('shows the highest count when answers overtake each other', async () => {
    const tab = await SamplePage.open(context, server.url);
    let release!: () => void;
    const released = new Promise<void>((resolve) => (release = resolve));
    // The answer to the first increment is held back until the second has been shown.
    await tab.page.route('**/counter/increment', async (route) => {
      const response = await route.fetch();
      await released;
      await route.fulfill({ response });
    });
    const answered = tab.page.waitForResponse('**/counter/increment');
    const counted = async () => {
      const response = await fetch(`${server.url}/counter`, {
        headers: { 'x-state-token': await tab.token() },
      });
      return ((await response.json()) as { count: number }).count;
    };
    await tab.incrementOverHttp();
    while ((await counted()) === 0) await tab.page.waitForTimeout(20);
    await tab.incrementOverSocket();
    await tab.whenCountIs(2);
    release();
    await answered;
    await tab.page.locator('#last').filter({ hasText: 'HTTP answered 1' }).waitFor();
    expect(await tab.count()).toBe(2);
    expect(await tab.note()).toBe('');
  });

  it('shows an error of the server and goes on with the next click', async () => {
    const tab = await SamplePage.open(context, server.url);
    await tab.page.route(
      '**/counter/increment',
      (route) =>
        route.fulfill({
          status: 503,
          contentType: 'application/json',
          body: JSON.stringify({ statusCode: 503, message: 'The state is busy. Try again.' }),
        }),
      { times: 1 },
    );
    await tab.incrementOverHttp();
    await tab.page.locator('#error').filter({ hasText: '503 The state is busy' }).waitFor();
    await tab.page.unrouteAll();
    await tab.page.route('**/counter/increment', (route) => route.abort(), { times: 1 });
    await tab.incrementOverHttp();
    await tab.page.locator('#error').filter({ hasText: 'cannot be reached' }).waitFor();
    await tab.page.unrouteAll();
    await tab.incrementOverHttp();
    await tab.whenCountIs(1);
    expect(await tab.page.locator('#error').textContent()).toBe('');
  });

  it.each(['light', 'dark'] as const)('fits a phone, in %s colours', async (colorScheme) => {
    const phone = await browser.newContext({ viewport: PHONE, colorScheme, isMobile: true, hasTouch: true });
    try {
      const tab = await SamplePage.open(phone, server.url);
      await tab.page.locator('#increment').tap();
      await tab.whenCountIs(1);
      await tab.page.locator('#ws-increment').tap();
      await tab.whenCountIs(2);
      const widths = await tab.page.evaluate(() => {
        const { document, innerWidth } = globalThis as unknown as {
          document: { documentElement: { scrollWidth: number } };
          innerWidth: number;
        };
        return [document.documentElement.scrollWidth, innerWidth];
      });
      expect(widths).toEqual([PHONE.width, PHONE.width]);
      for (const id of ['increment', 'ws-increment']) {
        const box = await tab.page.locator(`#${id}`).boundingBox();
        expect(box?.height).toBeGreaterThanOrEqual(44);
        expect(box && box.y + box.height).toBeLessThan(PHONE.height);
      }
      expect(tab.complaints).toEqual([]);
    } finally {
      await phone.close();
    }
  });
});

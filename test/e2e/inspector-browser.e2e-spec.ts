import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { StateInspectorModule, StateToken, type StateManager } from 'nestjs-state';
import type { Browser, Page } from 'playwright-core';
import { hashIdent } from '../../lib/internal/ident.js';
import { MARK, storeStates } from '../support/app-inspector.js';
import { CartState, CounterState } from '../support/app-states.js';
import { startApp, type TestApp } from '../support/app.js';
import { DESKTOP, launchBrowser, PHONE } from '../support/browser.js';
import { until } from '../support/redis-server.js';

const WIDTHS = [
  ['a desktop', DESKTOP],
  ['a phone', PHONE],
] as const;

/** Turns that come and go, callers that wait, states that expire: until it is stopped. */
class Load {
  private isOver = false;
  private readonly workers: Promise<void>[];

  constructor(private readonly states: StateManager) {
    const idents = Array.from({ length: 12 }, (_, index) => `${MARK}-${index % 4}`);
    this.workers = idents.map((ident, index) => this.work(ident, index));
  }

  async stop(): Promise<void> {
    this.isOver = true;
    await Promise.all(this.workers);
  }

  private async work(ident: string, worker: number): Promise<void> {
    const label = worker % 2 === 0 ? 'CheckoutController.payWithTheBankOfTheCustomer' : 'BoardGateway.draw';
    for (let round = 0; !this.isOver; round += 1) {
      await this.states.modifyState(
        new StateToken(ident, CounterState),
        () => delay(10 + ((worker * 37 + round * 11) % 90)),
        {
          label,
        },
      );
      await this.states.modifyState(new StateToken(`${MARK}-${worker}-${round}`, CartState), (cart) =>
        cart.add('tea'),
      );
    }
  }
}

const isLive = (page: Page) => page.locator('body[data-connection="live"]').waitFor();
const line = (page: Page, id: string) => page.locator(`#${id} .line`).getAttribute('d');
const text = async (page: Page, selector: string) => (await page.locator(selector).textContent()) ?? '';

describe('The page of the inspector', () => {
  let app: TestApp;
  let browser: Browser;
  let load: Load | undefined;
  let isLetIn = true;
  /** What anybody has been sent, and what the browser complained of. */
  let traffic: string[] = [];
  let complaints: string[] = [];

  beforeAll(async () => {
    [app, browser] = await Promise.all([
      startApp({
        imports: [StateInspectorModule.forRoot({ path: 'states', authorize: () => isLetIn })],
        state: { expiration: '1s' },
      }),
      launchBrowser(),
    ]);
  }, 120_000);

  afterEach(async () => {
    await load?.stop();
    load = undefined;
    isLetIn = true;
  });

  afterAll(async () => {
    await browser?.close();
    await app?.close();
  });

  async function open(viewport: { width: number; height: number }): Promise<Page> {
    traffic = [];
    complaints = [];
    const context = await browser.newContext({ viewport });
    const page = await context.newPage();
    page.on('console', (message) => complaints.push(message.text()));
    page.on('pageerror', (error) => complaints.push(String(error)));
    page.on('request', (request) => traffic.push(request.url()));
    page.on('response', (response) => {
      void response.text().then(
        (body) => traffic.push(JSON.stringify(response.headers()), body),
        () => undefined,
      );
    });
    await page.goto(`${app.url}/states`);
    return page;
  }

  it('says that nothing is held and nothing stored, when that is so', async () => {
    await using turn = await app.states.openTurn(MARK, { label: 'Tests.hold' });
    const page = await open(PHONE);
    await until('the lock is shown', async () => (await text(page, '#locks tbody')).includes('Tests.hold'));
    await turn.rollback();
    await page.getByText('No lock is held right now.').waitFor();
    await page.getByText('Nothing is stored.').waitFor();
    expect(complaints).toEqual([]);
    await page.context().close();
  });

  it('says that the connection is lost, and goes on when it is back; rests while it is paused', async () => {
    await storeStates(app.states, 4);
    const page = await open(DESKTOP);
    await isLive(page);
    await page.route('**/data', (route) => route.abort());
    await page.getByText(/^No answer since .*Trying again/).waitFor();
    await page.unroute('**/data');
    await isLive(page);
    expect(await page.locator('#trouble').isVisible()).toBe(false);
    // By the keyboard alone.
    await page.keyboard.press('Tab');
    await page.keyboard.press('Enter');
    await page.getByText(/^Paused at/).waitFor();
    expect(await page.locator('#pause').getAttribute('aria-pressed')).toBe('true');
    await page.keyboard.press('Enter');
    await isLive(page);
    isLetIn = false;
    await page.getByText(/does not let this page look any more \(404\)/).waitFor();
    await page.context().close();
  });

  it.each(WIDTHS)(
    'shows what is going on, on %s, and no ident in anything that it gets',
    async (_, viewport) => {
      load = new Load(app.states);
      const page = await open(viewport);
      await isLive(page);
      const ids = ['turns', 'waiting', 'expired', 'states'];
      const before = await Promise.all(ids.map((id) => line(page, id)));
      await until('all plots have moved, and states have expired', async () => {
        const after = await Promise.all(ids.map((id) => line(page, id)));
        const expired = Number((await text(page, '#expired .value')).replaceAll(',', ''));
        return (
          expired > 0 && after.every((path, index) => path !== before[index] && path?.includes('L') === true)
        );
      });
      await until('the handlers are shown', async () =>
        (await text(page, '#locks tbody')).includes(`#${hashIdent(`${MARK}-0`)}`),
      );
      await until('the classes are shown', async () =>
        (await text(page, '#classes tbody')).includes('e2e.cart'),
      );
      expect(await text(page, '#classes .note')).toMatch(/idents/);
      expect(Number(await text(page, '#turns .value'))).toBeGreaterThan(0);
      expect(Number(await text(page, '#waiting .value'))).toBeGreaterThan(0);
      expect(await page.locator('#turns svg').getAttribute('aria-label')).toMatch(
        /^Open turns: \d+ now, at most \d+/,
      );
      const overflow = await page.evaluate(() => {
        const { document, innerWidth } = globalThis as unknown as {
          document: { documentElement: { scrollWidth: number } };
          innerWidth: number;
        };
        return document.documentElement.scrollWidth - innerWidth;
      });
      expect(overflow).toBeLessThanOrEqual(0);
      expect(complaints).toEqual([]);
      const everything = [...traffic, await page.content()].join('\n');
      expect(everything).toContain(hashIdent(`${MARK}-0`));
      expect(everything).toContain('e2e.cart');
      expect(everything).not.toContain(MARK);
      // Nothing of it comes from elsewhere.
      expect(traffic.filter((url) => /^https?:/.test(url) && !url.startsWith(app.url))).toEqual([]);
      await page.context().close();
    },
  );
});

import { chromium, type Browser, type BrowserContext, type Page } from 'playwright-core';
import { requireProgram } from './programs.mjs';

// No sandbox: containers run as root. The rest keeps the browser from talking to anybody but the test.
const ARGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-dev-shm-usage',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

export const DESKTOP = { width: 1280, height: 800 };
export const PHONE = { width: 360, height: 640 };

export function launchBrowser(): Promise<Browser> {
  return chromium.launch({ executablePath: requireProgram('chromium'), args: ARGS, timeout: 60_000 });
}

/** The sample's page in a tab, and everything the browser complained about in it. */
export class SamplePage {
  readonly complaints: string[] = [];

  private constructor(readonly page: Page) {
    page.on('console', (message) => {
      if (message.type() === 'error' || message.type() === 'warning') this.complaints.push(message.text());
    });
    page.on('pageerror', (error) => this.complaints.push(String(error)));
    page.on('requestfailed', (request) =>
      this.complaints.push(`${request.method()} ${request.url()} failed`),
    );
    page.on('response', (response) => {
      if (response.status() >= 400) this.complaints.push(`${response.status()} ${response.url()}`);
    });
  }

  /** Opens the page and waits until it knows its token and its socket is connected. */
  static async open(context: BrowserContext, url: string): Promise<SamplePage> {
    const sample = new SamplePage(await context.newPage());
    await sample.page.goto(url);
    await sample.page.locator('#socket[data-state="on"]').waitFor();
    return sample;
  }

  async token(): Promise<string> {
    return this.page.locator('#token').inputValue();
  }

  async count(): Promise<number> {
    return Number(await this.page.locator('#counter').textContent());
  }

  async note(): Promise<string> {
    return (await this.page.locator('#note').textContent()) ?? '';
  }

  /** The share of the idle time that is left, 0 to 1. */
  async idleShare(): Promise<number> {
    return this.page.locator('#expires').evaluate((bar) => {
      const { value, max } = bar as unknown as { value: number; max: number };
      return value / max;
    });
  }

  async incrementOverHttp(): Promise<void> {
    await this.page.locator('#increment').click();
  }

  async incrementOverSocket(): Promise<void> {
    await this.page.locator('#ws-increment').click();
  }

  /** Clicks both buttons in turn, as fast as the page can take it, without waiting for an answer. */
  async clickAlternately(times: number): Promise<void> {
    await this.page.evaluate((clicks) => {
      const { document } = globalThis as unknown as {
        document: { querySelector(selector: string): { click(): void } };
      };
      for (let click = 0; click < clicks; click += 1) {
        document.querySelector(click % 2 === 0 ? '#increment' : '#ws-increment').click();
      }
    }, times);
  }

  async whenCountIs(count: number): Promise<void> {
    await this.page
      .locator('#counter')
      .filter({ hasText: new RegExp(`^${count}$`) })
      .waitFor();
  }

  /** Waits until the page says that the idle time has run out. */
  async whenIdleTimeRanOut(): Promise<void> {
    await this.page.locator('#note').filter({ hasText: 'ran out' }).waitFor();
  }
}

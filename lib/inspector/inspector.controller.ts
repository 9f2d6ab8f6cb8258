import { Controller, Get, Inject, Req, Res, UseGuards, VERSION_NEUTRAL, type Type } from '@nestjs/common';
import { HttpAdapterHost } from '@nestjs/core';
import { InspectorGuard } from './inspector.guard.js';
import { pageHtml } from './page/page.html.js';
import { PAGE_SCRIPT } from './page/page.script.js';
import { PAGE_STYLE } from './page/page.style.js';
import { StateInspector } from './state-inspector.js';

/** What the page may load: what is served here, and nothing that is written into the page. */
const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; " +
  "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const HEADERS = {
  'Cache-Control': 'no-store',
  'Content-Security-Policy': POLICY,
  'Cross-Origin-Resource-Policy': 'same-origin',
  // Whoever authorizes by the query must not find it in the log of another server.
  'Referrer-Policy': 'no-referrer',
  'X-Content-Type-Options': 'nosniff',
};

@UseGuards(InspectorGuard)
class InspectorController {
  constructor(
    @Inject(StateInspector) private readonly inspector: StateInspector,
    @Inject(HttpAdapterHost) private readonly host: HttpAdapterHost,
  ) {}

  @Get()
  page(@Req() request: unknown, @Res() response: unknown): void {
    const url = this.host.httpAdapter.getRequestUrl(request) as string;
    const queryAt = url.indexOf('?');
    const path = queryAt < 0 ? url : url.slice(0, queryAt);
    // Who is let in by something in the query is let in to the files by the same.
    this.send(response, 'text/html', pageHtml(folderOf(path), queryAt < 0 ? '' : url.slice(queryAt)));
  }

  @Get('page.js')
  script(@Res() response: unknown): void {
    this.send(response, 'text/javascript', PAGE_SCRIPT);
  }

  @Get('page.css')
  style(@Res() response: unknown): void {
    this.send(response, 'text/css', PAGE_STYLE);
  }

  @Get('data')
  data(@Res() response: unknown): void {
    this.send(response, 'application/json', JSON.stringify(this.inspector.report()));
  }

  /** Past the interceptors of the application: one that wraps every answer would wrap a style sheet too. */
  private send(response: unknown, type: string, body: string): void {
    const { httpAdapter } = this.host;
    for (const [name, value] of Object.entries(HEADERS)) httpAdapter.setHeader(response, name, value);
    httpAdapter.setHeader(response, 'Content-Type', `${type}; charset=utf-8`);
    httpAdapter.reply(response, body, 200);
  }
}

/** A controller of its own for each place where the page is mounted. */
export function inspectorControllerAt(path: string): Type<unknown> {
  class MountedInspectorController extends InspectorController {}
  // A browser asks for no version: where they are told by a header, and there is a default, it would find nothing.
  Controller({ path, version: VERSION_NEUTRAL })(MountedInspectorController);
  return MountedInspectorController;
}

/**
 * Where the other files are, seen from the page at `path`: the browser may know the server under another path, so it is told
 * by the last part alone.
 */
function folderOf(path: string): string {
  return path.endsWith('/') ? './' : `./${path.slice(path.lastIndexOf('/') + 1)}/`;
}

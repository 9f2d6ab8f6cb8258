import { readFile } from 'node:fs/promises';
import { Controller, Get, Header, NotFoundException, Param } from '@nestjs/common';

const HTML = 'text/html; charset=utf-8';
const SCRIPT = 'text/javascript; charset=utf-8';
const JSON_PATCH = import.meta.resolve('immutable-json-patch');
/** What the page of the board may load: what this server has, and nothing that is written into the page. */
const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; " +
  "base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

@Controller()
export class PageController {
  @Get()
  @Header('Content-Type', HTML)
  @Header('Cache-Control', 'no-store')
  page(): Promise<string> {
    return file('index.html');
  }

  @Get('board')
  @Header('Content-Type', HTML)
  @Header('Cache-Control', 'no-store')
  @Header('Content-Security-Policy', POLICY)
  board(): Promise<string> {
    return file('board.html');
  }

  @Get('board.css')
  @Header('Content-Type', 'text/css; charset=utf-8')
  boardStyle(): Promise<string> {
    return file('board.css');
  }

  @Get('board.js')
  @Header('Content-Type', SCRIPT)
  boardScript(): Promise<string> {
    return file('board.js');
  }

  @Get('state-client.js')
  @Header('Content-Type', SCRIPT)
  stateClient(): Promise<string> {
    return file('state-client.js');
  }

  /** The modules of the library that the pages apply patches with. */
  @Get('immutable-json-patch/:file')
  @Header('Content-Type', SCRIPT)
  jsonPatch(@Param('file') name: string): Promise<string> {
    if (!/^\w+\.js$/.test(name)) throw new NotFoundException();
    return readFile(new URL(name, JSON_PATCH), 'utf8').catch(() => {
      throw new NotFoundException();
    });
  }
}

function file(name: string): Promise<string> {
  return readFile(new URL(`./public/${name}`, import.meta.url), 'utf8');
}

import { readFile } from 'node:fs/promises';
import { Controller, Get, Header } from '@nestjs/common';

@Controller()
export class PageController {
  @Get()
  @Header('Content-Type', 'text/html; charset=utf-8')
  @Header('Cache-Control', 'no-store')
  page(): Promise<string> {
    return readFile(new URL('./public/index.html', import.meta.url), 'utf8');
  }
}

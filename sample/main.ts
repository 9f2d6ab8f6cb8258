import 'reflect-metadata';
import { Logger } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { STATE_OPTIONS, type ResolvedStateOptions } from 'nestjs-state';
import { AppModule } from './app.module.js';

// With a parent that listens, cluster.ts: the end of that process is the end of this one.
process.once('disconnect', () => process.kill(process.pid, 'SIGTERM'));

const port = Number(process.env['PORT'] ?? 3000);
const app = await NestFactory.create(AppModule);
app.enableShutdownHooks();
const { mode, redis } = app.get<ResolvedStateOptions>(STATE_OPTIONS);
if (mode === 'redis') {
  const { RedisIoAdapter } = await import('./redis-io.adapter.js');
  app.useWebSocketAdapter(new RedisIoAdapter(app, redis));
}
await app.listen(port, '127.0.0.1');
new Logger('Sample').log(`Open ${await app.getUrl()}`);
process.send?.('ready');

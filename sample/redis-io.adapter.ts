import { setTimeout as delay } from 'node:timers/promises';
import type { INestApplicationContext } from '@nestjs/common';
import { IoAdapter } from '@nestjs/platform-socket.io';
import { createAdapter } from '@socket.io/redis-adapter';
import { Redis } from 'ioredis';
import type { ResolvedStateOptions } from 'nestjs-state';
import type { Server, ServerOptions } from 'socket.io';

const GOODBYE_MS = 1_000;

/** Lets what is emitted to a room reach the sockets of every process on the same Redis. */
export class RedisIoAdapter extends IoAdapter {
  private readonly publisher: Redis;
  private readonly subscriber: Redis;

  constructor(
    app: INestApplicationContext,
    private readonly options: ResolvedStateOptions['redis'],
  ) {
    super(app);
    // Through an outage it waits: socket.io leaves a publication that fails to nobody.
    this.publisher = new Redis(options.url as string, { maxRetriesPerRequest: null });
    this.subscriber = this.publisher.duplicate();
    // The state manager says already when Redis is away and when it is back.
    for (const client of [this.publisher, this.subscriber]) client.on('error', () => undefined);
  }

  override createIOServer(port: number, options?: ServerOptions): Server {
    const server = super.createIOServer(port, options) as Server;
    // Who has states of his own on a shared Redis has rooms of his own too.
    server.adapter(
      createAdapter(this.publisher, this.subscriber, { key: `${this.options.keyPrefix}socket.io` }),
    );
    return server;
  }

  /** Called by Nest when the application closes, after the sockets. */
  override async dispose(): Promise<void> {
    const clients = [this.publisher, this.subscriber];
    // What is published still goes out, unless Redis has fallen silent.
    await Promise.race([Promise.allSettled(clients.map((client) => client.quit())), delay(GOODBYE_MS)]);
    for (const client of clients) client.disconnect();
  }
}

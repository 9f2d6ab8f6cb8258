import type { AddressInfo, Server } from 'node:net';
import { describe, expect, it } from '@jest/globals';
import { Controller, Post } from '@nestjs/common';
import { ClientProxyFactory, MessagePattern, Transport } from '@nestjs/microservices';
import { MessageBody, SubscribeMessage, WebSocketGateway } from '@nestjs/websockets';
import { InjectState } from 'nestjs-state';
import { firstValueFrom } from 'rxjs';
import { call, countOf, expectIdle } from '../support/app-http.js';
import { inOneQueue, inParallel } from '../support/app-gate.js';
import { connect, type TestSocket } from '../support/app-sockets.js';
import { CounterState } from '../support/app-states.js';
import { HTTP_PLATFORMS, SOCKET_PLATFORMS, startApp } from '../support/app.js';

const IDENT = 'mixed';
const REQUESTS = 100;
const MESSAGES = 50;

/** Loses updates unless it is alone. */
async function incrementSlowly(counter: CounterState): Promise<number> {
  const { count } = counter;
  await new Promise((resolve) => setImmediate(resolve));
  counter.count = count + 1;
  return counter.count;
}

@Controller()
class MixedController {
  @Post('increment')
  async increment(@InjectState() counter: CounterState) {
    return { count: await incrementSlowly(counter) };
  }

  @MessagePattern('increment')
  async rpc(@InjectState({ ident: () => IDENT }) counter: CounterState) {
    return { count: await incrementSlowly(counter) };
  }
}

@WebSocketGateway()
class MixedGateway {
  @SubscribeMessage('increment')
  async increment(@InjectState() counter: CounterState, @MessageBody() { id }: { id: number }) {
    return { event: 'answer', data: { id, count: await incrementSlowly(counter) } };
  }
}

const combinations = HTTP_PLATFORMS.flatMap((platform) =>
  SOCKET_PLATFORMS.map((sockets) => ({ platform, sockets })),
);

describe.each(combinations)('One ident on every transport ($platform, $sockets)', ({ platform, sockets }) => {
  it('counts every request and every message exactly once', async () => {
    let rpcServer!: Server;
    const app = await startApp({
      platform,
      sockets,
      controllers: [MixedController],
      providers: [MixedGateway],
      configure: async (nest) => {
        const service = nest.connectMicroservice(
          { transport: Transport.TCP, options: { host: '127.0.0.1', port: 0 } },
          { inheritAppConfig: true },
        );
        await nest.startAllMicroservices();
        rpcServer = service.unwrap<Server>();
      },
    });
    const { port } = rpcServer.address() as AddressInfo;
    const rpc = ClientProxyFactory.create({ transport: Transport.TCP, options: { host: '127.0.0.1', port } });
    const clients = await inParallel(5, () => connect(app, sockets, IDENT));
    try {
      const total = REQUESTS + 2 * MESSAGES;
      const answers = await inOneQueue(app.states, [IDENT], total, async (index) => {
        if (index < REQUESTS)
          return (await call<{ count: number }>(app, '/increment', { token: IDENT })).body;
        return index < REQUESTS + MESSAGES
          ? (clients[index % 5] as TestSocket).request<{ count: number }>('increment')
          : firstValueFrom(rpc.send<{ count: number }>('increment', {}));
      });
      const counts = answers.map(({ count }) => count);
      expect(counts.sort((a, b) => a - b)).toEqual(Array.from({ length: total }, (_, index) => index + 1));
      expect(await countOf(app, IDENT)).toBe(total);
      await expectIdle(app);
    } finally {
      await Promise.all(clients.map((client) => client.close()));
      await rpc.close();
      await app.close();
    }
  });
});

import type { AddressInfo, Server } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { Controller, type ExecutionContext, type INestMicroservice } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { ClientProxyFactory, MessagePattern, Transport, type ClientProxy } from '@nestjs/microservices';
import { InjectState, InjectStateSession, StateManager, StateSession, StateToken } from 'nestjs-state';
import { firstValueFrom } from 'rxjs';
import { CounterState } from '../support/app-states.js';
import { rootModule } from '../support/app.js';

interface Order {
  user: string;
}

const failures: unknown[] = [];
const resolver = (context: ExecutionContext) => `user:${context.switchToRpc().getData<Order>().user}`;

@Controller()
class SessionController {
  @MessagePattern('increment')
  increment(@InjectState() counter: CounterState, @InjectStateSession() session: StateSession) {
    const { ident, isNew, token } = session;
    return { count: counter.increment(), ident, isNew, token: token ?? null };
  }

  @MessagePattern('login')
  async login(@InjectState() counter: CounterState, @InjectStateSession() session: StateSession) {
    counter.increment();
    await session.regenerate().catch((error: unknown) => failures.push(error));
    return { ident: session.ident };
  }

  @MessagePattern('logout')
  async logout(@InjectStateSession() session: StateSession) {
    return { existed: await session.destroy() };
  }
}

describe('The session of a microservice that has a resolver (TCP)', () => {
  let service: INestMicroservice;
  let client: ClientProxy;

  beforeAll(async () => {
    const root = rootModule({ controllers: [SessionController], state: { token: { resolver } } });
    service = await NestFactory.createMicroservice(root, {
      transport: Transport.TCP,
      options: { host: '127.0.0.1', port: 0 },
      logger: false,
    });
    await service.listen();
    const { port } = service.unwrap<Server>().address() as AddressInfo;
    client = ClientProxyFactory.create({ transport: Transport.TCP, options: { host: '127.0.0.1', port } });
    await client.connect();
  });

  afterAll(async () => {
    await client.close();
    await service.close();
  });

  const send = <T>(pattern: string, user: string): Promise<T> =>
    firstValueFrom(client.send<T>(pattern, { user }));
  const countOf = async (ident: string): Promise<number> =>
    (await service.get(StateManager).getState(new StateToken(ident, CounterState))).count;

  it('says who the client is, and ends; a new ident is refused, and the turn goes on', async () => {
    expect(await send('increment', 'ann')).toEqual({
      count: 1,
      ident: 'user:ann',
      isNew: false,
      token: null,
    });
    expect(await send('login', 'ann')).toEqual({ ident: 'user:ann' });
    expect(failures).toEqual([expect.objectContaining({ code: 'STATE_NO_SESSION' })]);
    expect(await countOf('user:ann')).toBe(2);
    expect(await send('logout', 'ann')).toEqual({ existed: true });
    expect(await send('logout', 'ann')).toEqual({ existed: false });
    expect(await countOf('user:ann')).toBe(0);
  });
});

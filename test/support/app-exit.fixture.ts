import 'reflect-metadata';
import { request } from 'node:http';
import { text } from 'node:stream/consumers';
import { Controller, Module, Post } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { ExpressAdapter } from '@nestjs/platform-express';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import { InjectState, State, StateModule } from 'nestjs-state';

// Run in a process of its own: it has to exit by itself once the application is closed, with a state still stored.

@State()
class ExitState {
  count = 0;
}

@Controller()
class ExitController {
  @Post('increment')
  increment(@InjectState() state: ExitState) {
    state.count += 1;
    return { count: state.count };
  }
}

@Module({ imports: [StateModule.forRoot({ mode: 'memory' })], controllers: [ExitController] })
class ExitModule {}

const adapter = process.argv[2] === 'fastify' ? new FastifyAdapter() : new ExpressAdapter();
const app = await NestFactory.create(ExitModule, adapter, { logger: ['error', 'warn'] });
await app.listen(0, '127.0.0.1');
const url = await app.getUrl();
const answer = await new Promise<string>((resolve, reject) => {
  request(`${url}/increment`, { method: 'POST', agent: false }, (incoming) => resolve(text(incoming)))
    .once('error', reject)
    .end();
});
console.log(`answered ${answer}`);
await app.close();
console.log('closed');

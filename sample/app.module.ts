import { Module } from '@nestjs/common';
import { StateModule } from 'nestjs-state';
import { BoardGateway } from './board.gateway.js';
import { BoardMembers } from './board.members.js';
import { CounterController } from './counter.controller.js';
import { CounterGateway } from './counter.gateway.js';
import { CounterView } from './counter.view.js';
import { inspector } from './inspector.js';
import { LiveGateway } from './live.gateway.js';
import { PageController } from './page.controller.js';

@Module({
  imports: [StateModule.forRoot(), ...inspector()],
  controllers: [CounterController, PageController],
  providers: [BoardGateway, BoardMembers, CounterGateway, CounterView, LiveGateway],
})
export class AppModule {}

import { Controller, Get, Post, UseInterceptors } from '@nestjs/common';
import { InjectState, StateIdent } from 'nestjs-state';
import { CounterState } from './counter.state.js';
import { CounterView, type CounterAnswer } from './counter.view.js';
import { LiveInterceptor } from './live.interceptor.js';

@Controller('counter')
export class CounterController {
  constructor(private readonly view: CounterView) {}

  @Get()
  read(@InjectState({ readonly: true }) counter: CounterState, @StateIdent() token: string): CounterAnswer {
    return this.view.answer(counter, token);
  }

  @Post('increment')
  @UseInterceptors(LiveInterceptor)
  increment(@InjectState() counter: CounterState, @StateIdent() token: string): CounterAnswer {
    counter.increment();
    return this.view.answer(counter, token);
  }
}

import { Controller, Get, Post } from '@nestjs/common';
import { InjectState, StateIdent } from 'nestjs-state';
import { CounterState } from './counter.state.js';
import { CounterView, type CounterAnswer } from './counter.view.js';

@Controller('counter')
export class CounterController {
  constructor(private readonly view: CounterView) {}

  @Get()
  read(@InjectState({ readonly: true }) counter: CounterState, @StateIdent() token: string): CounterAnswer {
    return this.view.answer(counter, token);
  }

  @Post('increment')
  increment(@InjectState() counter: CounterState, @StateIdent() token: string): CounterAnswer {
    counter.increment();
    return this.view.answer(counter, token);
  }
}

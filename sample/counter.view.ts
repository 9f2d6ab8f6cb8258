import { Inject, Injectable } from '@nestjs/common';
import { STATE_OPTIONS, type Immutable, type ResolvedStateOptions } from 'nestjs-state';
import type { CounterState } from './counter.state.js';

/** What the client is told of its counter. */
export interface CounterAnswer {
  count: number;
  token: string;
  /** How long the counter lives if nobody touches it again. */
  expiresInMs: number;
}

@Injectable()
export class CounterView {
  constructor(@Inject(STATE_OPTIONS) private readonly options: ResolvedStateOptions) {}

  // Every answer is a use, and every use restarts the idle window: what is left is always the whole of it.
  answer({ count }: Immutable<CounterState>, token: string): CounterAnswer {
    return { count, token, expiresInMs: this.options.expirationMs };
  }
}

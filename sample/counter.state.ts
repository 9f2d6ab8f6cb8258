import { State } from 'nestjs-state';

@State('counter')
export class CounterState {
  count = 0;

  increment(): void {
    this.count += 1;
  }
}

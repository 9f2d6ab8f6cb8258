import { State } from 'nestjs-state';

@State('counter')
export class CounterState {
  count = 0;

  increment(): void {
    this.count += 1;
  }
}

@State('cart')
export class CartState {
  items: { name: string; amount: number }[] = [];
  notes: string[] = [];
  total = 0;
}

/** Holds anything, for asking what can be stored. */
@State('box')
export class BoxState {
  value: unknown = undefined;
  touched = { times: 0 };
  list: { n: number }[] = [{ n: 1 }, { n: 2 }];
}

@State('nested')
export class NestedState {
  readonly counter = new CounterState();
  readonly counters = new Map<string, CounterState>();
  when = new Date(0);
  tags = new Set<string>();
  bytes = new Uint8Array(2);
  part = { bytes: new Uint8Array(2), label: 'part' };
}

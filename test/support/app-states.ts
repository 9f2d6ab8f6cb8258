import { State } from 'nestjs-state';

@State('e2e.counter')
export class CounterState {
  count = 0;

  increment(): number {
    this.count += 1;
    return this.count;
  }
}

export interface CartItem {
  sku: string;
  amount: number;
}

@State('e2e.cart')
export class CartState {
  items: CartItem[] = [];
  note: string | undefined = undefined;

  add(sku: string, amount = 1): void {
    this.items.push({ sku, amount });
  }
}

/** Holds whatever it is given, so that a test can put in what no manager can store. */
@State('e2e.loose')
export class LooseState {
  value: unknown = 'fresh';
}

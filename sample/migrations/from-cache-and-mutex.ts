import { Injectable } from '@nestjs/common';
import { Mutex } from 'async-mutex';
import { createCache } from 'cache-manager';
import { State, StateManager, StateToken } from 'nestjs-state';
import { priceOf } from './shop.js';

interface CachedCart {
  items: string[];
  total: number;
}

/**
 * Before: correct in one process, while nobody forgets the mutex. It keeps a mutex for each visitor for ever, reads wait as
 * writes do, and a second process knows nothing of the locks of the first.
 */
@Injectable()
export class CachedCarts {
  readonly mutexes = new Map<string, Mutex>();
  private readonly cache = createCache({ ttl: 3_600_000 });

  async add(visitor: string, item: string): Promise<number> {
    let mutex = this.mutexes.get(visitor);
    if (mutex === undefined) this.mutexes.set(visitor, (mutex = new Mutex()));
    return mutex.runExclusive(async () => {
      const cart = (await this.cache.get<CachedCart>(visitor)) ?? { items: [], total: 0 };
      cart.items.push(item);
      cart.total += await priceOf(item);
      await this.cache.set(visitor, cart);
      return cart.items.length;
    });
  }
}

@State('cart')
class CartState {
  items: string[] = [];
  total = 0;
}

/** After: the lock, the copy that is written back and the time it lives are one call, and the same on Redis. */
@Injectable()
export class StateCarts {
  constructor(private readonly states: StateManager) {}

  add(visitor: string, item: string): Promise<number> {
    return this.states.modifyState(new StateToken(visitor, CartState), async (cart) => {
      cart.items.push(item);
      cart.total += await priceOf(item);
      return cart.items.length;
    });
  }
}

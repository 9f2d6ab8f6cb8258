import {
  Body,
  Controller,
  Module,
  Post,
  Session,
  type MiddlewareConsumer,
  type NestModule,
} from '@nestjs/common';
import session from 'express-session';
import { InjectState, State, StateModule } from 'nestjs-state';
import { priceOf } from './shop.js';

interface SessionCart {
  items?: string[];
  total?: number;
}

/** Before: each request has a copy of the session, and the last one that is saved wins. */
@Controller('cart')
class SessionCartController {
  @Post()
  async add(@Session() cart: SessionCart, @Body('item') item: string): Promise<{ items: number }> {
    const price = await priceOf(item);
    cart.items = [...(cart.items ?? []), item];
    cart.total = (cart.total ?? 0) + price;
    return { items: cart.items.length };
  }
}

@Module({ controllers: [SessionCartController] })
export class SessionShopModule implements NestModule {
  configure(consumer: MiddlewareConsumer): void {
    const middleware = session({ secret: 'of the example', resave: false, saveUninitialized: true });
    consumer.apply(middleware).forRoutes('cart');
  }
}

/** After: what is in the session becomes a class, with its defaults and its rules. */
@State('cart')
export class CartState {
  items: string[] = [];
  total = 0;

  add(item: string, price: number): void {
    this.items.push(item);
    this.total += price;
  }
}

/** `@Session()` becomes `@InjectState()`: the requests of one visitor take turns, and one that fails changes nothing. */
@Controller('cart')
class StateCartController {
  @Post()
  async add(@InjectState() cart: CartState, @Body('item') item: string): Promise<{ items: number }> {
    cart.add(item, await priceOf(item));
    return { items: cart.items.length };
  }
}

@Module({ imports: [StateModule.forRoot()], controllers: [StateCartController] })
export class StateShopModule {}

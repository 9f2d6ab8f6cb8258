import { describe, expect, it } from '@jest/globals';
import { InjectState, InjectStateSession, State, StateIdent } from 'nestjs-state';
import { HandlerPlan } from '../../../lib/injection/handler-plan.js';

@State('cart')
class CartState {
  items: string[] = [];
}

const room = (): string => 'room';
const board = (): string => 'board';

class ShopController {
  add(@InjectState() _cart: CartState): void {}

  show(
    @InjectState({ readonly: true }) _cart: CartState,
    @StateIdent() _ident: string,
    @InjectStateSession() _session: unknown,
  ): void {}

  share(
    @InjectState() _own: CartState,
    @InjectState({ ident: room }) _one: CartState,
    @InjectState({ ident: room }) _same: CartState,
    @InjectState({ ident: board }) _other: CartState,
  ): void {}
}

class BookShopController extends ShopController {}
class ToyShopController extends ShopController {}

/** What a decorator does that wraps a method. */
function wrapped(method: (...values: never[]) => void): () => void {
  const wrapper = (...values: never[]): void => method(...values);
  for (const key of Reflect.getMetadataKeys(method) as string[])
    Reflect.defineMetadata(key, Reflect.getMetadata(key, method), wrapper);
  return wrapper;
}

const { add, show, share } = ShopController.prototype;

describe('the plan of a handler', () => {
  it('locks the states of each ident once, whoever names it', () => {
    expect(new HandlerPlan(add).locked).toStrictEqual([undefined]);
    expect(new Set(new HandlerPlan(share).locked)).toStrictEqual(new Set([undefined, room, board]));
    expect(new HandlerPlan(share).locked).toHaveLength(3);
  });

  it('locks nothing for snapshots, idents and sessions', () => {
    const plan = new HandlerPlan(show);
    expect(plan.locked).toStrictEqual([]);
    expect(plan.parameters).toHaveLength(3);
  });

  it('has nothing for a handler without injected states', () => {
    const plan = new HandlerPlan(() => undefined);
    expect([plan.locked, plan.parameters]).toStrictEqual([[], []]);
  });

  it('is the same for a function that carries the metadata of the handler', () => {
    const [plan, other] = [new HandlerPlan(share), new HandlerPlan(wrapped(share))];
    expect(other.parameters).toStrictEqual(plan.parameters);
    expect(other.locked).toStrictEqual(plan.locked);
  });

  it('calls an inherited handler by the class that it is called in, however they take turns', () => {
    const plan = new HandlerPlan(add);
    const labels = [BookShopController, ToyShopController, BookShopController, BookShopController].map(
      (cls) => plan.labelIn(cls),
    );
    expect(labels).toStrictEqual([
      'BookShopController.add',
      'ToyShopController.add',
      'BookShopController.add',
      'BookShopController.add',
    ]);
  });
});

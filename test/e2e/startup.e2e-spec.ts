import { describe, expect, it } from '@jest/globals';
import { Controller, Post, type Type } from '@nestjs/common';
import { MessagePattern } from '@nestjs/microservices';
import { SubscribeMessage, WebSocketGateway } from '@nestjs/websockets';
import { InjectState, InvalidStateOptionsError, State } from 'nestjs-state';
import { call } from '../support/app-http.js';
import { CartState, CounterState } from '../support/app-states.js';
import { HTTP_PLATFORMS, startApp, startError } from '../support/app.js';

interface Basket {
  items: { sku: string }[];
}

type Either = CounterState | CartState;

class Undeclared {
  count = 0;
}

@State('e2e.same-name')
class First {
  first = 1;
}

@State('e2e.same-name')
class Second {
  second = 2;
}

@Controller()
class ExplicitController {
  @Post('own-type')
  ownType(@InjectState() counter: CounterState) {
    return { isCounter: counter instanceof CounterState };
  }

  @Post('class')
  byClass(@InjectState(CartState) basket: Basket) {
    basket.items.push({ sku: 'x' });
    return basket;
  }

  @Post('option')
  byOption(@InjectState({ type: CounterState }) either: Either) {
    return { isCounter: either instanceof CounterState };
  }
}

@Controller()
class InterfaceController {
  @Post()
  pay(@InjectState() _basket: Basket) {}
}

@Controller()
class UnionController {
  @Post()
  pay(_unrelated: string, @InjectState() _either: Either) {}
}

@Controller()
class ReadonlyInterfaceController {
  @Post()
  read(@InjectState({ readonly: true }) _basket: Basket) {}
}

@Controller()
class UndeclaredController {
  @Post()
  count(@InjectState() _state: Undeclared) {}
}

@Controller()
class FirstController {
  @Post('first')
  first(@InjectState() _state: First) {}
}

@Controller()
class SecondController {
  @Post('second')
  second(@InjectState() _state: Second) {}
}

@WebSocketGateway()
class InterfaceGateway {
  @SubscribeMessage('pay')
  pay(@InjectState() _basket: Basket) {}
}

@Controller()
class RpcController {
  @MessagePattern('pay')
  pay(@InjectState() _basket: Basket) {}
}

async function problemsOf(controllers: Type<unknown>[], providers: Type<unknown>[] = []): Promise<string> {
  const error = await startError({ controllers, providers });
  expect(error).toBeInstanceOf(InvalidStateOptionsError);
  expect((error as InvalidStateOptionsError).code).toBe('STATE_INVALID_OPTIONS');
  return error.message;
}

describe.each(HTTP_PLATFORMS)('The state class of a parameter (%s)', (platform) => {
  it('is its own type, or the one that is given', async () => {
    const app = await startApp({ platform, controllers: [ExplicitController] });
    try {
      expect((await call(app, '/own-type', { token: 't' })).body).toEqual({ isCounter: true });
      expect((await call(app, '/class', { token: 't' })).body).toEqual({ items: [{ sku: 'x' }] });
      expect((await call(app, '/option', { token: 't' })).body).toEqual({ isCounter: true });
    } finally {
      await app.close();
    }
  });
});

describe('A handler whose state cannot be injected', () => {
  it.each([
    ['an interface', InterfaceController, 'InterfaceController.pay, parameter 1'],
    ['a union', UnionController, 'UnionController.pay, parameter 2'],
    ['an interface, readonly', ReadonlyInterfaceController, 'ReadonlyInterfaceController.read, parameter 1'],
    ['an interface, in a microservice', RpcController, 'RpcController.pay, parameter 1'],
  ])('stops the start when its type is %s', async (_case, controller, handler) => {
    const message = await problemsOf([controller]);
    expect(message).toContain(handler);
    expect(message).toContain('@InjectState(CartState)');
  });

  it('stops the start when it is in a gateway', async () => {
    expect(await problemsOf([], [InterfaceGateway])).toContain('InterfaceGateway.pay, parameter 1');
  });

  it('stops the start when its class has no @State()', async () => {
    const message = await problemsOf([UndeclaredController]);
    expect(message).toContain('UndeclaredController.count');
    expect(message).toContain('Undeclared is not a state class');
  });

  it('stops the start when two classes have one name', async () => {
    const message = await problemsOf([FirstController, SecondController]);
    expect(message).toContain('SecondController.second');
    expect(message).toContain("'e2e.same-name'");
  });

  it('is reported together with all the others', async () => {
    const error = await startError({
      controllers: [InterfaceController, UnionController, UndeclaredController],
    });
    expect((error as InvalidStateOptionsError).problems).toHaveLength(3);
  });
});

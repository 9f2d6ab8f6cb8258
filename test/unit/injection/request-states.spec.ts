import { describe, expect, it } from '@jest/globals';
import { ExecutionContextHost } from '@nestjs/core/helpers/execution-context-host.js';
import type { HttpAdapterHost, ModuleRef } from '@nestjs/core';
import { State, type StateTokenResolver } from 'nestjs-state';
import { addInjectedParameter } from '../../../lib/injection/injected-state.js';
import { RequestStates } from '../../../lib/injection/request-states.js';
import type { LockingStateManager } from '../../../lib/managers/locking-state.manager.js';
import type { ResolvedStateOptions } from '../../../lib/state.options.js';

@State('counter')
class CounterState {
  count = 0;
}

class CounterController {
  increment(): void {}
  other(): void {}
}

class VisitController extends CounterController {}

for (const handler of ['increment', 'other'] as const) {
  addInjectedParameter(CounterController.prototype[handler], {
    index: 0,
    type: CounterState,
    injects: 'state',
    readonly: false,
    ident: undefined,
    isTypeMissing: false,
  });
}

/** What is known of requests needs nothing else of an application than `manager`. */
function createStates(manager = {} as LockingStateManager): RequestStates {
  const resolver: unknown = { resolve: () => 'visitor' };
  return new RequestStates(
    manager,
    { token: {} } as ResolvedStateOptions,
    resolver as StateTokenResolver,
    {} as ModuleRef,
    {} as HttpAdapterHost,
  );
}

/** Notes for whom it opens turns. */
function createManager(labels: string[]): LockingStateManager {
  const manager: unknown = {
    tryOpenTurn: (ident: string, label: string) => {
      labels.push(label);
      return { ident, abandon: () => undefined };
    },
  };
  return manager as LockingStateManager;
}

function contextOf(
  request: object,
  handler: 'increment' | 'other' = 'increment',
  controller: typeof CounterController = CounterController,
): ExecutionContextHost {
  const context = new ExecutionContextHost([request, {}], controller, CounterController.prototype[handler]);
  context.setType('http');
  return context;
}

describe('RequestStates', () => {
  it.each([
    ['an ordinary one', {}],
    ['a frozen one', Object.freeze({})],
  ])('finds the turn of a request again: %s', (_kind, request) => {
    const states = createStates();
    const turn = states.injectedTurnOf(contextOf(request));
    expect(turn).toBeDefined();
    expect(states.injectedTurnOf(contextOf(request))).toBe(turn);
    expect(states.injectedTurnOf(contextOf({}))).not.toBe(turn);
  });

  it('keeps the turns apart of two handlers that see the same request', () => {
    const states = createStates();
    const request = {};
    const turn = states.injectedTurnOf(contextOf(request));
    expect(states.injectedTurnOf(contextOf(request, 'other'))).not.toBe(turn);
  });

  it('keeps the turns apart of two applications that see the same request', () => {
    const [one, other] = [createStates(), createStates()];
    const request = {};
    const turn = one.injectedTurnOf(contextOf(request));
    expect(other.injectedTurnOf(contextOf(request))).not.toBe(turn);
    expect(one.injectedTurnOf(contextOf(request))).toBe(turn);
  });

  it('leaves nothing in a request that a copy or a log of it would show', () => {
    const request = { url: '/' };
    createStates().injectedTurnOf(contextOf(request));
    expect(Reflect.ownKeys({ ...request })).toStrictEqual(['url']);
  });

  it('opens the turn of an inherited handler for the controller that was asked', async () => {
    const labels: string[] = [];
    const states = createStates(createManager(labels));
    await states.onModuleInit();
    for (const controller of [VisitController, CounterController, VisitController])
      await states.injectedTurnOf(contextOf({}, 'increment', controller))?.open();
    expect(labels).toStrictEqual([
      'VisitController.increment',
      'CounterController.increment',
      'VisitController.increment',
    ]);
  });

  it('opens a turn in each of two applications that see the same request', async () => {
    const request = {};
    const seen: string[][] = [[], []];
    for (const labels of seen) {
      const states = createStates(createManager(labels));
      await states.onModuleInit();
      await states.injectedTurnOf(contextOf(request))?.open();
      await states.injectedTurnOf(contextOf(request))?.open();
    }
    expect(seen).toStrictEqual([['CounterController.increment'], ['CounterController.increment']]);
  });
});

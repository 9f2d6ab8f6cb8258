import 'reflect-metadata';
import { Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { State, StateManager, StateModule, StateToken, type StateError } from 'nestjs-state';

// Run in a process of its own: a script without a server, in which nothing but the library can keep Node alive.

@State()
class ScriptState {
  count = 0;
}

@Module({
  imports: [StateModule.forRoot({ mode: 'memory', acquireTimeout: '300ms', drainTimeout: '300ms' })],
})
class ScriptModule {}

const app = await NestFactory.createApplicationContext(ScriptModule, { logger: ['error'] });
const states = app.get(StateManager);

function increment(state: ScriptState): void {
  state.count += 1;
}

/** Locks `outer`, and `inner` within it. */
function nested(outer: string, inner: string): Promise<string> {
  return states
    .modifyState(new StateToken(outer, ScriptState), async () => {
      await Promise.resolve();
      await states.modifyState(new StateToken(inner, ScriptState), increment);
    })
    .then(
      () => 'stored',
      (error: unknown) => (error as StateError).code,
    );
}

console.log((await Promise.all([nested('a', 'b'), nested('b', 'a')])).sort().join(' '));
// A turn that is never ended: closing waits for it, in vain.
const turn = await states.openTurn('c');
await app.close();
console.log(`closed ${turn.signal.aborted ? 'without' : 'with'} the open turn`);

import { expect } from '@jest/globals';
import { State, StateToken, type StateEvent, type StateTurn } from 'nestjs-state';
import { hashIdent } from '../../../lib/internal/ident.js';
import type { MemoryStateManager } from '../../../lib/managers/memory/memory-state.manager.js';
import { FakeClock, settle } from '../../support/fake-clock.js';
import { openMemoryManager } from '../../support/manager-memory.js';
import { PlainModel } from './model.plain.js';
import { EXPIRATION_MS, MAX_HOLD_MS, type Command, type Ending, type Step } from './model.program.js';

interface Counted {
  count: number;
}

@State('first')
class FirstState implements Counted {
  count = 0;
}

@State('second')
class SecondState implements Counted {
  count = 0;
}

const CLASSES = [FirstState, SecondState];
const IDENTS = ['ident 0', 'ident 1', 'ident 2'];

/** Runs `commands` on a manager and on the model, and compares them after each of them. */
export async function runProgram(commands: readonly Command[]): Promise<void> {
  const clock = new FakeClock();
  const manager = await openMemoryManager({ expiration: EXPIRATION_MS, maxHold: MAX_HOLD_MS }, clock);
  const events: StateEvent[] = [];
  manager.events$.subscribe((event) => events.push(event));
  const model = new PlainModel();
  const real = new RealRunner(manager);
  try {
    for (const command of commands) {
      const [actual, expected] = await runCommand(command, clock, real, model);
      expect(actual).toStrictEqual(expected);
      await clock.advance(0);
      model.pass(0);
      expect(manager.stats()).toStrictEqual({
        mode: 'memory',
        openTurns: 0,
        waiting: 0,
        states: model.stateCount,
      });
      expect(await manager.count()).toBe(model.identCount);
      expect(events.splice(0).map(showEvent).sort()).toStrictEqual(model.takeEvents());
    }
    for (const [ident, name] of IDENTS.entries()) {
      for (const [cls, type] of CLASSES.entries()) {
        const { count } = await manager.getState(new StateToken<Counted>(name, type));
        expect(count).toBe(model.read(ident, cls));
      }
    }
    await clock.advance(EXPIRATION_MS + MAX_HOLD_MS);
    expect(manager.stats().states).toBe(0);
    expect(clock.pendingTimers).toBe(0);
  } finally {
    await manager.onModuleDestroy();
  }
}

async function runCommand(
  command: Command,
  clock: FakeClock,
  real: RealRunner,
  model: PlainModel,
): Promise<[unknown, unknown]> {
  switch (command.do) {
    case 'step':
      return [await real.run(command.step), model.run(command.step)];
    case 'rename':
      return [await real.rename(command), model.rename(command)];
    case 'login':
      return [await real.login(command), model.login(command)];
    case 'batch':
      return [
        await Promise.all(command.steps.map((step) => real.run(step))),
        command.steps.map((step) => model.run(step)),
      ];
    case 'advance':
      await clock.advance(command.ms);
      return [undefined, model.pass(command.ms)];
    case 'block': {
      clock.block(command.ms);
      model.block(command.ms);
      return [await real.run(command.step), model.run(command.step)];
    }
    case 'contend':
      return [await real.contend(command, clock), model.contend(command)];
    default:
      return command satisfies never;
  }
}

function showEvent({ type, identHash, states }: StateEvent): string {
  const ident = IDENTS.findIndex((each) => hashIdent(each) === identHash);
  return `${type} ${ident} ${[...states].sort().join()}`;
}

/** Does on a manager what the model does on plain maps. */
class RealRunner {
  constructor(private readonly manager: MemoryStateManager) {}

  run(step: Step): Promise<string> {
    return show(this.act(step));
  }

  rename({ from, to }: Extract<Command, { do: 'rename' }>): Promise<string> {
    return show(this.manager.renameState(IDENTS[from] as string, IDENTS[to] as string));
  }

  login({ from, to, cls, add, ending }: Extract<Command, { do: 'login' }>): Promise<string> {
    return show(
      this.modify({ ident: from, cls, add, ending }, async (_pause, state) => {
        await this.manager.renameState(IDENTS[from] as string, IDENTS[to] as string);
        state.count += add;
      }),
    );
  }

  async contend(
    { ident, holdMs, timeoutsMs }: Extract<Command, { do: 'contend' }>,
    clock: FakeClock,
  ): Promise<string[]> {
    const token = tokenOf(ident, 0);
    const turn = await this.manager.openTurn(token.ident);
    const calls = timeoutsMs.map((acquireTimeout) =>
      this.manager
        .modifyState(token, (state) => (state.count += 1), { acquireTimeout })
        .then(String, (error: Error) => error.name),
    );
    await clock.advance(holdMs);
    await turn.rollback();
    return Promise.all(calls);
  }

  private async act(step: Step): Promise<unknown> {
    const { manager } = this;
    switch (step.do) {
      case 'get':
        return (await manager.getState(tokenOf(step.ident, step.cls))).count;
      case 'set': {
        const state = Object.assign(new (CLASSES[step.cls] as typeof FirstState)(), { count: step.value });
        return manager.setState<Counted>(tokenOf(step.ident, step.cls), state);
      }
      case 'delete':
        return manager.deleteState(IDENTS[step.ident] as string);
      case 'turn': {
        const turn: StateTurn = await manager.openTurn(IDENTS[step.ident] as string);
        const state = await turn.state<Counted>(CLASSES[step.cls] as typeof FirstState);
        state.count += step.add;
        return step.ending === 'commit' ? turn.commit() : turn.rollback();
      }
      case 'modify':
        return this.modify(step, async (pause) => {
          for (let times = 0; times < step.pauses; times += 1) await pause();
        });
      case 'nested':
        return this.modify(step, async () => {
          try {
            await this.act(step.inner);
          } catch (error) {
            if (!step.catches) throw error;
          }
        });
      default:
        return step satisfies never;
    }
  }

  private modify(
    step: { ident: number; cls: number; add: number; ending: Ending },
    middle: (pause: () => Promise<void>, state: Counted) => Promise<void>,
  ): Promise<number> {
    const controller = new AbortController();
    return this.manager.modifyState(
      tokenOf(step.ident, step.cls),
      async (state) => {
        state.count += step.add;
        await middle(settle, state);
        if (step.ending === 'throw') throw new Error('refused');
        if (step.ending === 'abort') controller.abort(new Error('aborted'));
        if (step.ending === 'unstorable') Object.assign(state, { extra: () => undefined });
        return state.count;
      },
      { signal: controller.signal },
    );
  }
}

async function show(result: Promise<unknown>): Promise<string> {
  try {
    return `ok ${String(await result)}`;
  } catch (error) {
    const { name, message } = error as Error;
    return `failed ${name === 'Error' ? message : name}`;
  }
}

function tokenOf(ident: number, cls: number): StateToken<Counted> {
  return new StateToken<Counted>(IDENTS[ident] as string, CLASSES[cls] as typeof FirstState);
}

import type { Type } from '@nestjs/common';
import type { StateDefinition } from '../internal/state-definition.js';
import { STATE_ERROR_CODES, StateError } from '../state.errors.js';
import { requireDefinition } from '../state.token.js';
import type { ManagedTurn } from './managed-turn.js';
import { currentFrame } from './turn-scope.js';

const WHERE =
  'in a handler that has a state injected without `readonly`, or in the function given to `modifyState`, ' +
  'and in what these call and await';

/**
 * The turn that the running code is inside of, for services that are not handed its states.
 *
 * Guarantee: it is that of the own request or call, also after an `await`, however many run at once. Failure: a
 * {@link StateError} where no turn is running. Cost: a walk over the turns that are open in this async context.
 */
export class StateContext {
  private constructor() {}

  /**
   * The mutable draft of that state: the very object that a parameter with `@InjectState()`, or the function given to
   * `modifyState`, has for the ident.
   *
   * Where turns of several idents are open it is that of the innermost one that uses a state of the class, else a new
   * one of the innermost turn. Among the states of one handler the client's own ident comes before others.
   *
   * @throws {StateError} `STATE_NO_CURRENT_STATE` outside of a running turn, after it, in a handler that only reads, in
   * a turn that `openTurn` gave, and where a handler has several idents and none of them is the client's own.
   * @throws {LockExpiredError} when the lock was lost.
   * @throws {InvalidStateTokenError} when `cls` is no state class.
   */
  static current<T>(cls: Type<T>): T {
    const definition = requireDefinition(cls);
    const what = `${definition.name} is needed by StateContext.current()`;
    return (turnUsing(definition, what) ?? innermostTurn(what)).draft(definition) as T;
  }

  /**
   * The ident of the innermost turn: the credential itself, so it belongs into no log.
   *
   * @throws {StateError} `STATE_NO_CURRENT_STATE` as {@link current} does.
   */
  static ident(): string {
    return innermostTurn('An ident is needed by StateContext.ident()').ident;
  }
}

/** Turns that were opened together, and of which none is inside of another one. */
interface Layer {
  readonly turns: readonly ManagedTurn[];
  /** The one that stands for all. */
  readonly main: ManagedTurn | undefined;
}

/** The running turns of this async context, innermost first. */
function* layers(): Generator<Layer> {
  for (let frame = currentFrame(); frame !== undefined; frame = frame.outer) {
    const { turn, own } = frame;
    if (turn === undefined) continue;
    // What has been moved on has nothing left that could be meant.
    const turns = [turn, ...(turn.companions ?? [])].filter(
      ({ isRunning, isVacated }) => isRunning && !isVacated,
    );
    if (turns.length > 0) yield { turns, main: turns.length === 1 ? turns[0] : heirOf(own) };
  }
}

function heirOf(turn: ManagedTurn | undefined): ManagedTurn | undefined {
  let heir = turn;
  while (heir?.successor !== undefined) heir = heir.successor;
  return heir;
}

/** The innermost turn that has a draft of that state already. */
function turnUsing(definition: StateDefinition, what: string): ManagedTurn | undefined {
  for (const { turns, main } of layers()) {
    const using = turns.filter((turn) => turn.uses(definition));
    if (using.length > 0) return oneOf(using, main, what);
  }
  return undefined;
}

function innermostTurn(what: string): ManagedTurn {
  for (const { turns, main } of layers()) if (turns.length > 0) return oneOf(turns, main, what);
  throw noCurrentState(`${what}, and ${whyNone()}. Ask for it ${WHERE}.`);
}

function oneOf(turns: readonly ManagedTurn[], main: ManagedTurn | undefined, what: string): ManagedTurn {
  const [first, ...others] = turns as readonly [ManagedTurn, ...ManagedTurn[]];
  if (others.length === 0) return first;
  if (main !== undefined && turns.includes(main)) return main;
  throw noCurrentState(
    `${what}, and ${first.handler} has turns of ${turns.length} idents, none of which is the client's own: it could ` +
      'be that of any of them. Pass the injected state to whoever needs it.',
  );
}

function whyNone(): string {
  const frame = currentFrame();
  if (frame?.turn !== undefined) return `the turn of ${frame.turn.handler} has ended`;
  return frame?.injected === undefined ? 'no turn is running here' : 'this handler has only readonly states';
}

function noCurrentState(message: string): StateError {
  return new StateError(STATE_ERROR_CODES.noCurrentState, message);
}

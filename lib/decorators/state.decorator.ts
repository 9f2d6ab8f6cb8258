import { defineState, type StateClass } from '../internal/state-definition.js';
import { InvalidStateOptionsError } from '../state.errors.js';

/** How the states of a class are stored. */
export interface StateDeclaration {
  /**
   * What its states are stored under: letters, digits, `_`, `-`, `.` and `:`. Give one when the class may be renamed
   * or your build shortens class names; it must be unique in the application.
   *
   * @default the name of the class
   */
  name?: string;
  /**
   * The version of the fields, a positive integer. Raise it together with a `migrate` when a stored state of before
   * the change would be misread; a field that is merely new needs neither, it gets the default of the class.
   *
   * @default 1
   */
  version?: number;
  /**
   * Turns the fields stored by an older version into those of this one; may change `old` and return it, and must not
   * be async. When it throws, the state starts afresh, with one warning and an `unreadable` event.
   */
  migrate?: (old: Record<string, unknown>, version: number) => object;
}

const NAME = /^[\w.:-]{1,128}$/;

/**
 * Declares a class whose instances are states. `new StateClass()` is its fresh value.
 *
 * The class needs a constructor without required parameters. Its fields may hold what every manager can store: plain
 * objects, arrays, Map, Set, Date, typed arrays, primitives and instances of other `@State()` classes. It must not
 * have `#private` fields (TypeScript's `private` is fine): handlers work on a proxy, and those cannot be reached
 * through one.
 *
 * @throws {InvalidStateOptionsError} when the name or the version is not usable.
 */
export function State(declaration: string | StateDeclaration = {}): ClassDecorator {
  const {
    name,
    version = 1,
    migrate,
  } = typeof declaration === 'string' ? { name: declaration } : declaration;
  return (target) => {
    const problems: string[] = [];
    const stateName = name ?? target.name;
    if (typeof stateName !== 'string' || !NAME.test(stateName)) {
      problems.push(
        `@State() of class ${target.name}: name ${JSON.stringify(stateName)} does not match ${NAME}.`,
      );
    }
    if (!Number.isSafeInteger(version) || version < 1) {
      problems.push(
        `@State() of class ${target.name}: version ${String(version)} is not a positive integer.`,
      );
    }
    if (migrate !== undefined && typeof migrate !== 'function') {
      problems.push(`@State() of class ${target.name}: migrate is not a function.`);
    }
    if (problems.length > 0) throw new InvalidStateOptionsError(problems);
    defineState({ cls: target as unknown as StateClass, name: stateName, version, migrate });
  };
}

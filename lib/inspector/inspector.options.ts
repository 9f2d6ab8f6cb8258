import type { ExecutionContext } from '@nestjs/common';
import { InvalidStateOptionsError } from '../state.errors.js';

/** Injection token of the options of one `StateInspectorModule`. */
export const INSPECTOR_OPTIONS = Symbol('nestjs-state:inspector-options');

/** Options of `StateInspectorModule.forRoot()`. Both are required: there is no page that nobody has asked for. */
export interface StateInspectorOptions {
  /**
   * Where the page is, as the path of a controller: `'states'`, `'admin/states'`. A global prefix comes before it. Its
   * style, script and data are below it.
   */
  path: string;
  /**
   * Lets a request in, for the page and for each look at the data; the application does not start without it. Only `true`
   * lets in. Anything else is answered as if there were no page (404), and so is an error it throws, which is logged; an
   * `HttpException` it throws is the answer. Runs after the global guards of the application.
   */
  authorize: (context: ExecutionContext) => boolean | Promise<boolean>;
}

const KNOWN = ['path', 'authorize'];
const PATH = /^\/?[\w.~-]+(\/[\w.~-]+)*\/?$/;

/** The options, checked. @throws {InvalidStateOptionsError} listing everything that is wrong with them. */
export function resolveInspectorOptions(options: unknown): StateInspectorOptions {
  const given = (typeof options === 'object' && options !== null ? options : {}) as Record<string, unknown>;
  const problems = Object.keys(given)
    .filter((key) => !KNOWN.includes(key))
    .map((key) => `${key}: unknown option. Known ones are ${KNOWN.join(', ')}.`);
  const { path, authorize } = given;
  if (typeof path !== 'string' || !PATH.test(path))
    problems.push(
      "path: it has to say where the page is, in letters, digits and . _ ~ - between slashes, such as 'admin/states'.",
    );
  if (typeof authorize !== 'function')
    problems.push(
      'authorize: it has to be a function that says who may look. The page shows what the application is doing: it is never open to everybody by default.',
    );
  if (problems.length > 0)
    throw new InvalidStateOptionsError(problems.map((problem) => `StateInspectorModule, ${problem}`));
  return { path, authorize } as StateInspectorOptions;
}

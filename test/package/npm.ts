import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { environment } from '../support/process.js';

const execute = promisify(execFile);

/** Runs a command to its end and returns what it printed; rejects with all of it when it fails. */
export async function run(command: string, args: readonly string[], cwd: string): Promise<string> {
  try {
    const { stdout } = await execute(command, args, { cwd, env: environment(), maxBuffer: 64 * 2 ** 20 });
    return stdout;
  } catch (error) {
    const { stdout, stderr } = error as { stdout?: string; stderr?: string };
    throw new Error(`${command} ${args.join(' ')} failed:\n${stdout ?? ''}${stderr ?? ''}`, { cause: error });
  }
}

/** What `npm pack --json` says of a tarball. */
export interface Packed {
  readonly filename: string;
  readonly files: ReadonlyArray<{ readonly path: string }>;
}

/** Packs what is built: without the scripts, which would build it anew under the feet of the tests beside this one. */
export async function pack(root: string, ...options: string[]): Promise<Packed> {
  const printed = await run('npm', ['pack', '--json', '--ignore-scripts', ...options], root);
  const answer = JSON.parse(printed) as Packed[] | Record<string, Packed>;
  const [packed] = Object.values(answer);
  if (packed === undefined) throw new Error(`npm pack printed ${printed}`);
  return packed;
}

import { fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

/** A process of a job that does what it is told, one call after the other or at once. */
export class Child {
  #process;
  #calls = new Map();
  #nextId = 1;

  /** Starts `children/<name>` and resolves once it is ready. */
  static start(name, ...args) {
    return Child.startOn(process.execPath, name, ...args);
  }

  /** The same on another Node. */
  static async startOn(execPath, name, ...args) {
    const child = new Child();
    const path = fileURLToPath(new URL(`../children/${name}`, import.meta.url));
    child.#process = fork(
      path,
      args.map((arg) => JSON.stringify(arg)),
      { serialization: 'advanced', execPath, env: { ...process.env, NODE_ENV: 'production' } },
    );
    child.#process.on('message', (message) => child.#answered(message));
    child.#process.once('exit', (code, signal) =>
      child.#ended(new Error(`${name} has ended: ${signal ?? code}.`)),
    );
    await child.#expect(0);
    return child;
  }

  call(command, ...args) {
    const id = this.#nextId;
    this.#nextId += 1;
    this.#process.send({ id, command, args });
    return this.#expect(id);
  }

  /** Lets it close what it has opened, and end. */
  async stop() {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    const ended = once(this.#process, 'exit');
    this.#process.disconnect();
    await ended;
  }

  #expect(id) {
    return new Promise((resolve, reject) => this.#calls.set(id, { resolve, reject }));
  }

  #answered({ id, result, failure }) {
    const { resolve, reject } = this.#calls.get(id);
    this.#calls.delete(id);
    if (failure === undefined) resolve(result);
    else reject(new Error(failure));
  }

  #ended(error) {
    for (const { reject } of this.#calls.values()) reject(error);
    this.#calls.clear();
  }
}

/** In the child: the arguments it was started with. */
export function childArguments() {
  return process.argv.slice(2).map((argument) => JSON.parse(argument));
}

/**
 * In the child: answers calls until the parent has gone.
 *
 * @param {Record<string, (...args: unknown[]) => unknown>} commands
 * @param {() => unknown} close
 */
export function serve(commands, close = () => undefined) {
  process.on('message', async ({ id, command, args }) => {
    try {
      process.send({ id, result: await commands[command](...args) });
    } catch (error) {
      process.send({ id, failure: String(error?.stack ?? error) });
    }
  });
  process.once('disconnect', async () => {
    await close();
    process.exit();
  });
  process.send({ id: 0 });
}

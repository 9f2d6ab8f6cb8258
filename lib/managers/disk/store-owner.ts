import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { rm } from 'node:fs/promises';
import { connect, createServer, type Server } from 'node:net';
import { join, relative } from 'node:path';
import { StateStoreUnavailableError } from '../../state.errors.js';

/** The longest name of a socket, in bytes: what every system takes. */
const LONGEST_ADDRESS = 100;
/** How long an owner may take to answer before it counts as alive, in milliseconds: it may be stopped. */
const ANSWER_MS = 1_000;

/** Where the name of the owner stands: in the store itself. */
export interface OwnerRegister {
  read(): string | undefined;
  /** Puts `next` in the place of `known`, unless something else stands there: then it returns false. */
  replace(known: string | undefined, next: string): boolean;
}

/**
 * Makes this process the only one that uses a store.
 *
 * An owner listens on a socket of its own, in the folder of the store, and its name stands in the store: whoever comes asks
 * there. The system closes a socket with its process, however that ends, so no store stays locked behind a crash, and no
 * number of a process that is used again is taken for an owner. A socket is a file: processes in two containers that share
 * the folder see each other.
 */
export class StoreOwner {
  private constructor(
    private readonly folder: string,
    readonly name: string,
    private readonly server: Server,
  ) {}

  /** @throws {StateStoreUnavailableError} when another process, or another manager of this one, uses the store. */
  static async claim(folder: string, register: OwnerRegister): Promise<StoreOwner> {
    const name = randomBytes(6).toString('hex');
    const server = await listen(addressOf(folder, name));
    const owner = new StoreOwner(folder, name, server);
    try {
      // Whoever comes at the same time listens as well: only one of them gets his name in, the others find it there.
      for (;;) {
        const known = register.read();
        if (known !== undefined && (await answers(addressOf(folder, known)))) {
          throw new StateStoreUnavailableError(
            `Another process uses the states in ${folder}. Stop it, give this one a \`disk.path\` (STATE_DISK_PATH) of its ` +
              'own, or use Redis for states that several processes share.',
          );
        }
        if (!register.replace(known, name)) continue;
        if (known !== undefined) await removeSocket(folder, known);
        return owner;
      }
    } catch (error) {
      await owner.close();
      throw error;
    }
  }

  /** Stops listening: the next one who comes finds nobody behind the name in the store, and may have it. */
  async close(): Promise<void> {
    await new Promise((resolve) => this.server.close(resolve));
    await removeSocket(this.folder, this.name);
  }
}

function addressOf(folder: string, name: string): string {
  if (process.platform === 'win32') return `\\\\.\\pipe\\nestjs-state-${name}`;
  const path = join(folder, `${name}.sock`);
  const address = [path, relative(process.cwd(), path)].find(
    (form) => Buffer.byteLength(form) <= LONGEST_ADDRESS,
  );
  if (address !== undefined) return address;
  throw new StateStoreUnavailableError(
    `\`disk.path\`: ${folder} is too long: the socket in it may have a name of ${LONGEST_ADDRESS} bytes. Choose a shorter one.`,
  );
}

async function listen(address: string): Promise<Server> {
  const server = createServer((socket) => socket.destroy());
  server.unref().listen(address);
  await once(server, 'listening');
  return server;
}

function answers(address: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(address);
    const settle = (isAlive: boolean): void => {
      socket.destroy();
      resolve(isAlive);
    };
    socket.setTimeout(ANSWER_MS, () => settle(true));
    socket.once('connect', () => settle(true));
    // Anything but these says that there is somebody: of another user, or with more callers than it can take.
    socket.once('error', ({ code }: NodeJS.ErrnoException) =>
      settle(code !== 'ENOENT' && code !== 'ECONNREFUSED'),
    );
  });
}

async function removeSocket(folder: string, name: string): Promise<void> {
  if (process.platform !== 'win32') await rm(join(folder, `${name}.sock`), { force: true });
}

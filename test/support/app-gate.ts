import { setImmediate as nextLoopTurn } from 'node:timers/promises';
import type { StateManager } from 'nestjs-state';

interface Deferred {
  readonly promise: Promise<void>;
  resolve(): void;
}

function deferred(): Deferred {
  let resolve!: () => void;
  const promise = new Promise<void>((done) => {
    resolve = done;
  });
  return { promise, resolve };
}

/** A door in a handler: the test waits until somebody stands before it, and opens it when it has seen enough. */
export class Gate {
  private readonly opened = deferred();
  private readonly firstArrival = deferred();

  /** For the handler. */
  pass(): Promise<void> {
    this.firstArrival.resolve();
    return this.opened.promise;
  }

  /** Resolves when a handler stands at the gate, or has passed it. */
  get reached(): Promise<void> {
    return this.firstArrival.promise;
  }

  open(): void {
    this.opened.resolve();
  }
}

/** Gates by name. One that nobody has asked for is made when it is. */
export class Gates {
  private readonly gates = new Map<string, Gate>();

  at(name: string): Gate {
    let gate = this.gates.get(name);
    if (gate === undefined) {
      gate = new Gate();
      this.gates.set(name, gate);
    }
    return gate;
  }

  /** New gates, all of them shut. */
  reset(): void {
    this.gates.clear();
  }
}

/** Resolves when `condition` holds; it is looked at once in each turn of the event loop. */
export async function until(condition: () => boolean, what: string): Promise<void> {
  const deadlineMs = performance.now() + 30_000;
  while (!condition()) {
    if (performance.now() > deadlineMs) throw new Error(`Never seen: ${what}`);
    await nextLoopTurn();
  }
}

/** `make(0)` … `make(count - 1)`, all at once. */
export function inParallel<T>(count: number, make: (index: number) => Promise<T>): Promise<T[]> {
  return Promise.all(Array.from({ length: count }, (_, index) => make(index)));
}

/**
 * Starts `count` requests that need the locks of `idents`, lets them go when all of them stand in the queue, and
 * resolves with their answers. Without it they might come one by one and never meet.
 */
export async function inOneQueue<T>(
  states: StateManager,
  idents: readonly string[],
  count: number,
  make: (index: number) => Promise<T>,
): Promise<T[]> {
  const turns = await Promise.all(idents.map((ident) => states.openTurn(ident)));
  const answers = inParallel(count, make);
  await until(() => states.stats().waiting === count, `${count} in the queue`);
  for (const turn of turns) await turn.rollback();
  return answers;
}

import { EXPIRATION_MS, type Command, type Ending, type Step } from './model.program.js';

const NAMES = ['first', 'second'];

interface ModelDraft {
  count: number;
  changed: boolean;
  unstorable: boolean;
}

interface ModelTurn {
  readonly ident: number;
  readonly drafts: Map<number, ModelDraft>;
  deletes: boolean;
  movesTo: number | undefined;
  failure: string | undefined;
}

class Failure extends Error {}

function show(result: () => unknown): string {
  try {
    return `ok ${String(result())}`;
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    return `failed ${error.message}`;
  }
}

/** What a manager does, on plain maps: one thing after the other, as the promises say it looks from outside. */
export class PlainModel {
  private readonly stored = new Map<number, Map<number, number>>();
  private readonly usedMs = new Map<number, number>();
  private readonly open: ModelTurn[] = [];
  private events: string[] = [];
  private nowMs = 0;

  get stateCount(): number {
    let count = 0;
    for (const states of this.stored.values()) count += states.size;
    return count;
  }

  get identCount(): number {
    return this.stored.size;
  }

  takeEvents(): string[] {
    const events = this.events.sort();
    this.events = [];
    return events;
  }

  /** Time passes, and whatever is idle for too long is gone. */
  pass(ms: number): void {
    this.nowMs += ms;
    for (const ident of this.stored.keys()) this.expire(ident);
  }

  /** Time passes, and nobody has had the time to do anything about it. */
  block(ms: number): void {
    this.nowMs += ms;
  }

  read(ident: number, cls: number): number {
    return this.stored.get(ident)?.get(cls) ?? 0;
  }

  run(step: Step): string {
    return show(() => this.act(step));
  }

  rename({ from, to }: Extract<Command, { do: 'rename' }>): string {
    return show(() => this.inTurn(from, (turn) => this.move(turn, to)));
  }

  login({ from, to, cls, add, ending }: Extract<Command, { do: 'login' }>): string {
    return show(() =>
      this.modify({ ident: from, cls, add, ending }, (turn) => {
        // It could wait for somebody who waits for it.
        if (to < from) throw new Failure('StateError');
        this.move(turn, to);
        this.add(this.draft(turn, cls), add);
      }),
    );
  }

  private move(turn: ModelTurn, to: number): boolean {
    this.expire(to);
    if (to !== turn.ident) this.usedMs.set(to, this.nowMs);
    if (to === turn.ident || this.stored.has(to)) throw new Failure('StateError');
    turn.movesTo = to;
    return this.stored.has(turn.ident);
  }

  contend({ ident, holdMs, timeoutsMs }: Extract<Command, { do: 'contend' }>): string[] {
    const turn = this.begin(ident);
    this.pass(holdMs);
    this.end(turn);
    return timeoutsMs.map((timeoutMs) => {
      if (timeoutMs < holdMs) return 'LockTimeoutError';
      return String(this.act({ do: 'modify', ident, cls: 0, add: 1, ending: 'return', pauses: 0 }));
    });
  }

  private act(step: Step): unknown {
    switch (step.do) {
      case 'get':
        this.expire(step.ident);
        if (this.stored.get(step.ident)?.has(step.cls) === true) this.usedMs.set(step.ident, this.nowMs);
        return this.read(step.ident, step.cls);
      case 'set':
        return this.inTurn(step.ident, (turn) => {
          const draft = this.draft(turn, step.cls);
          draft.changed = true;
          draft.count = step.value;
          draft.unstorable = false;
        });
      case 'delete':
        return this.inTurn(step.ident, (turn) => {
          const existed = !turn.deletes && this.stored.has(step.ident);
          turn.deletes = true;
          turn.drafts.clear();
          return existed;
        });
      case 'turn':
        return this.openTurn(step);
      case 'modify':
        return this.modify(step, () => undefined);
      case 'nested':
        return this.modify(step, () => {
          try {
            this.act(step.inner);
          } catch (error) {
            if (!step.catches) throw error;
          }
        });
      default:
        return step satisfies never;
    }
  }

  private openTurn({ ident, cls, add, ending }: Extract<Step, { do: 'turn' }>): void {
    const outer = this.turnOf(ident);
    const turn = outer ?? this.begin(ident);
    this.add(this.draft(turn, cls), add);
    if (outer === undefined && ending === 'commit') this.commit(turn);
    if (outer === undefined) this.end(turn);
    else if (ending === 'rollback') outer.failure ??= 'StateError';
  }

  private modify(
    { ident, cls, add, ending }: { ident: number; cls: number; add: number; ending: Ending },
    middle: (turn: ModelTurn) => void,
  ): number {
    const isJoined = this.turnOf(ident) !== undefined;
    return this.inTurn(ident, (turn) => {
      const draft = this.draft(turn, cls);
      this.add(draft, add);
      middle(turn);
      if (ending === 'throw') throw new Failure('refused');
      if (ending === 'unstorable') Object.assign(draft, { unstorable: true, changed: true });
      if (ending === 'abort') {
        // A joined call rejects at once. The caller of a turn hears of it whatever else there is to say.
        if (isJoined) throw new Failure('aborted');
        turn.failure = 'aborted';
      }
      return draft.count;
    });
  }

  private inTurn<R>(ident: number, run: (turn: ModelTurn) => R): R {
    const outer = this.turnOf(ident);
    if (outer !== undefined) {
      try {
        return run(outer);
      } catch (error) {
        outer.failure ??= (error as Failure).message;
        throw error;
      }
    }
    const turn = this.begin(ident);
    try {
      const result = run(turn);
      this.commit(turn);
      return result;
    } finally {
      this.end(turn);
    }
  }

  private begin(ident: number): ModelTurn {
    this.expire(ident);
    const turn: ModelTurn = {
      ident,
      drafts: new Map(),
      deletes: false,
      movesTo: undefined,
      failure: undefined,
    };
    this.open.push(turn);
    return turn;
  }

  private commit({ ident: begun, drafts, deletes, movesTo, failure }: ModelTurn): void {
    if (failure !== undefined) throw new Failure(failure);
    for (const { unstorable } of drafts.values()) {
      if (unstorable) throw new Failure('StateSerializationError');
    }
    const ident = movesTo ?? begun;
    const moved = movesTo === undefined ? undefined : this.stored.get(begun);
    if (moved !== undefined) {
      this.stored.delete(begun);
      this.stored.set(ident, moved);
      this.tell('renamed', begun, [...moved.keys()]);
    }
    const deleted = deletes ? this.stored.get(ident) : undefined;
    if (deleted !== undefined) {
      this.stored.delete(ident);
      this.tell('deleted', ident, [...deleted.keys()]);
    }
    const changed = [...drafts].filter(([, draft]) => draft.changed);
    if (changed.length === 0) return;
    const states = this.stored.get(ident) ?? new Map<number, number>();
    const created = changed.map(([cls]) => cls).filter((cls) => !states.has(cls));
    for (const [cls, { count }] of changed) states.set(cls, count);
    this.stored.set(ident, states);
    if (created.length > 0) this.tell('created', ident, created);
  }

  private end(turn: ModelTurn): void {
    this.open.splice(this.open.indexOf(turn), 1);
    this.usedMs.set(turn.ident, this.nowMs);
  }

  private draft(turn: ModelTurn, cls: number): ModelDraft {
    let draft = turn.drafts.get(cls);
    if (draft === undefined) {
      const count = turn.deletes ? 0 : this.read(turn.ident, cls);
      draft = { count, changed: false, unstorable: false };
      turn.drafts.set(cls, draft);
    }
    return draft;
  }

  private add(draft: ModelDraft, add: number): void {
    draft.count += add;
    draft.changed ||= add !== 0;
  }

  private turnOf(ident: number): ModelTurn | undefined {
    return this.open.find((turn) => turn.ident === ident);
  }

  private expire(ident: number): void {
    const states = this.stored.get(ident);
    if (states === undefined || this.turnOf(ident) !== undefined) return;
    if (this.nowMs - (this.usedMs.get(ident) ?? 0) < EXPIRATION_MS) return;
    this.stored.delete(ident);
    this.tell('expired', ident, [...states.keys()]);
  }

  private tell(type: string, ident: number, states: readonly number[]): void {
    this.events.push(
      `${type} ${ident} ${states
        .map((cls) => NAMES[cls])
        .sort()
        .join()}`,
    );
  }
}

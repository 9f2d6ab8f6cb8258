import type { ClockTimer } from '../../internal/clock.js';
import type { StateCodec, StateRecord, StateStep } from '../../internal/state-codec.js';
import { patched } from '../../internal/state-draft.js';
import type { StoredState, WatchedState } from '../watch/watched-state.js';
import type { Look } from './lock-commands.js';
import type { ChangedMessage } from './wake-message.js';

/** How long a commit that was seen in the store may be on its way as a message, in milliseconds. */
const GRACE_MS = 50;

export interface WatchRoomHost {
  readonly codec: StateCodec;
  nowMs(): number;
  /** Looks at the store as soon as possible. */
  checkSoon(room: WatchRoom): void;
  /** A record that cannot be read is a fresh state, which was said. */
  onUnreadable(room: WatchRoom, record: StateRecord, error: unknown): void;
}

/**
 * One watched state, and the chain of commits it is told by: each message names the commit before it.
 *
 * Guarantee: what follows the last commit that was applied is applied, once; anything else shows that something was
 * missed, and the store is looked at. A look that finds another commit than the last one that was applied is held back for
 * as long as a message may take: only when no message has come by then something was missed.
 */
export class WatchRoom {
  /** The store is looked at again then. */
  timer: ClockTimer | undefined;
  dueMs = 0;
  /** The longest time until then: what was asked of the store lasts longer. */
  lookEveryMs = 0;
  isChecking = false;
  isClosed = false;
  /** Somebody has come who was not there when the store was looked at last. */
  isJoined = false;

  /** The last commit that was applied; `undefined` before the first look. */
  private commit: string | undefined;
  /** Messages that do not follow it, yet. */
  private pending: ChangedMessage[] = [];
  /** The last of them when the store was about to be looked at. */
  private lastBefore: ChangedMessage | undefined;
  /** How many messages were applied. */
  private applied = 0;
  private appliedAtMs = 0;
  /** Commits that were applied while the store was looked at. */
  private readonly recent = new Set<string>();
  private heldBack: { readonly look: Look; readonly applied: number; readonly untilMs: number } | undefined;

  constructor(
    readonly ident: string,
    readonly state: WatchedState,
    private readonly host: WatchRoomHost,
  ) {}

  /** The commit that the next look need not bring. */
  get known(): string | undefined {
    return this.commit;
  }

  /** Until when a look is held back; `undefined` when none is. */
  get heldUntilMs(): number | undefined {
    return this.heldBack?.untilMs;
  }

  /** The store is about to be looked at. */
  checking(): void {
    this.isChecking = true;
    this.isJoined = false;
    this.recent.clear();
    this.lastBefore = this.pending.at(-1);
  }

  /** What a look at the store has found. */
  found(look: Look): void {
    this.isChecking = false;
    if (this.commit === undefined) {
      this.adopt(look);
    } else if (look.commit === this.commit || this.recent.has(look.commit)) {
      this.heldBack = undefined;
      // Nothing was missed: what was waiting is from before the first look.
      if (this.lastBefore !== undefined) this.pending.splice(0, this.pending.indexOf(this.lastBefore) + 1);
      this.drain();
      this.greet();
    } else if (this.heldBack === undefined || this.heldBack.applied !== this.applied) {
      this.heldBack = { look, applied: this.applied, untilMs: this.host.nowMs() + GRACE_MS };
    } else if (this.host.nowMs() >= this.heldBack.untilMs) {
      // Nothing has come that follows, whatever was committed since.
      this.adopt(look);
    }
  }

  /** The store could not be looked at. */
  failed(error: unknown): void {
    this.isChecking = false;
    this.state.fail(error);
  }

  hear(message: ChangedMessage): void {
    this.pending.push(message);
    if (this.commit !== undefined) this.drain();
  }

  private adopt(look: Look): void {
    this.heldBack = undefined;
    this.commit = look.commit;
    this.appliedAtMs = this.host.nowMs();
    this.state.look(this.recordIn(look.fields));
    this.greet();
    this.drain();
  }

  private greet(): void {
    if (!this.isJoined) this.state.greet();
  }

  private drain(): void {
    for (let message = this.pending[0]; message !== undefined; message = this.pending[0]) {
      if (message.commit !== '' && message.commit === this.commit) {
        // It was sent twice, because its answer was lost with the connection.
        this.pending.shift();
        continue;
      }
      if (!this.follows(message)) {
        const known = this.pending.findLastIndex(({ commit }) => commit === this.commit);
        if (known < 0) {
          if (this.heldBack === undefined) this.host.checkSoon(this);
          return;
        }
        // What the look at the store has shown already.
        this.pending.splice(0, known + 1);
        continue;
      }
      this.pending.shift();
      try {
        this.apply(message);
      } catch {
        // It cannot be done here, with another version of the class for instance: the store says what has become of it.
        this.commit = undefined;
        this.pending = [];
        this.host.checkSoon(this);
        return;
      }
      this.commit = message.commit;
      this.applied += 1;
      this.appliedAtMs = this.host.nowMs();
      if (this.isChecking) this.recent.add(message.commit);
      if (this.heldBack?.look.commit === message.commit) {
        this.heldBack = undefined;
        this.greet();
      }
    }
  }

  private follows({ before }: ChangedMessage): boolean {
    if (before === this.commit) return true;
    // The states have expired in between. Just after a look it may be a message from before it that is late.
    return before === '' && this.host.nowMs() - this.appliedAtMs > GRACE_MS;
  }

  private apply(message: ChangedMessage): void {
    const { state } = this;
    if (message.before === '' && this.commit !== '') state.gone('expired');
    const { content } = message;
    if ('fields' in content) {
      if (message.isDeleted) state.gone('deleted');
      const { name } = state.definition;
      if (hasField(content.fields, name)) state.committed(this.recordIn(content.fields));
      return;
    }
    for (const { isDeleted, states } of this.host.codec.decodeSteps(content.steps)) {
      if (isDeleted) state.gone('deleted');
      for (const step of states)
        if (step.name === state.definition.name) state.committed(this.afterStep(step));
    }
  }

  private afterStep({ version, commits, change }: StateStep): StoredState | undefined {
    const { state } = this;
    if ('record' in change) return this.decode(change.record);
    if (version !== state.definition.version || commits !== state.version + 1 || state.last === undefined)
      throw new Error('it does not follow what is known');
    return { snapshot: patched(state.definition, state.last, change.patches), version: commits };
  }

  private recordIn(fields: readonly Buffer[]): StoredState | undefined {
    const { name } = this.state.definition;
    const index = fields.findIndex((field, at) => at % 2 === 0 && field.toString() === name);
    return index < 0 ? undefined : this.decode(fields[index + 1] as Buffer);
  }

  private decode(record: StateRecord): StoredState | undefined {
    try {
      const snapshot = this.host.codec.decode(this.state.definition, record);
      return { snapshot, version: snapshot.commits };
    } catch (error) {
      this.host.onUnreadable(this, record, error);
      return undefined;
    }
  }
}

function hasField(fields: readonly Buffer[], name: string): boolean {
  return fields.some((field, at) => at % 2 === 0 && field.toString() === name);
}

import type { Logger } from '@nestjs/common';
import type { ManagedTurn } from './managed-turn.js';

const ONCE_IN_MS = 60_000;
/** A label may be built from data: beyond this many the memory of them starts anew instead of growing. */
const MAX_HANDLERS = 1_000;

/** Warns of turns that held their lock for long: once a minute for each handler, naming it. */
export class SlowTurnWarnings {
  private readonly warnedAtMs = new Map<string, number>();

  constructor(
    private readonly thresholdMs: number,
    private readonly logger: Logger,
  ) {}

  check(turn: ManagedTurn, heldMs: number): void {
    if (heldMs <= this.thresholdMs) return;
    const { handler } = turn;
    const nowMs = turn.openedAtMs + heldMs;
    const lastMs = this.warnedAtMs.get(handler);
    if (lastMs !== undefined && nowMs - lastMs < ONCE_IN_MS) return;
    if (this.warnedAtMs.size >= MAX_HANDLERS) this.warnedAtMs.clear();
    this.warnedAtMs.set(handler, nowMs);
    this.logger.warn(
      `${turn.description} held its lock for ${Math.round(heldMs)} ms, more than \`lockWarningThreshold\` ` +
        `(${this.thresholdMs} ms): everybody else on that ident waits. Do the slow work outside the turn.`,
    );
  }
}

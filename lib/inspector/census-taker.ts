import type { Clock } from '../internal/clock.js';
import type { StateCensus } from '../managers/state-census.js';

/** How old a census may be before somebody who looks causes another one, in milliseconds. */
const FRESH_MS = 5_000;
/** A census takes no more than one part in so many of the time. */
const REST = 20;

/** The last census, and how old it is. */
export interface LastCensus {
  readonly census: StateCensus | undefined;
  readonly ageMs: number;
  /** The last try has failed: the store is silent, or does not let this user look. */
  readonly hasFailed: boolean;
}

/** Takes a census now and then while somebody looks, never two at once. Nobody waits for one. */
export class CensusTaker {
  private census: StateCensus | undefined;
  private takenAtMs = 0;
  private dueAtMs = -Infinity;
  private hasFailed = false;
  private isUnderWay = false;

  constructor(
    private readonly take: () => Promise<StateCensus>,
    private readonly clock: Clock,
  ) {}

  look(): LastCensus {
    const nowMs = this.clock.nowMs();
    if (!this.isUnderWay && nowMs >= this.dueAtMs) void this.renew(nowMs);
    const { census, takenAtMs, hasFailed } = this;
    return { census, ageMs: census === undefined ? 0 : Math.round(nowMs - takenAtMs), hasFailed };
  }

  private async renew(startMs: number): Promise<void> {
    this.isUnderWay = true;
    try {
      this.census = await this.take();
      this.hasFailed = false;
      this.takenAtMs = this.clock.nowMs();
    } catch {
      this.hasFailed = true;
    }
    const nowMs = this.clock.nowMs();
    this.dueAtMs = nowMs + Math.max(FRESH_MS, REST * (nowMs - startMs));
    this.isUnderWay = false;
  }
}

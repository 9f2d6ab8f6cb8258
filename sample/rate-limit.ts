/** Lets `perSecond` through on average, and `burst` at once. */
export class RateLimit {
  private left: number;
  private atMs = performance.now();

  constructor(
    private readonly perSecond: number,
    private readonly burst: number,
  ) {
    this.left = burst;
  }

  /** Whether one more may pass. */
  take(): boolean {
    const nowMs = performance.now();
    this.left = Math.min(this.burst, this.left + ((nowMs - this.atMs) / 1_000) * this.perSecond);
    this.atMs = nowMs;
    if (this.left < 1) return false;
    this.left -= 1;
    return true;
  }
}

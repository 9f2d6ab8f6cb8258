import { Deferred } from '../../internal/deferred.js';

/** Counts what is under way, for who has to wait for the end of all of it. */
export class OpenWork {
  private count = 0;
  private idle: Deferred | undefined;

  /** Something has begun; {@link end} has to follow. */
  begin(): void {
    this.count += 1;
  }

  readonly end = (): void => {
    this.count -= 1;
    if (this.count > 0) return;
    this.idle?.resolve();
    this.idle = undefined;
  };

  /** @returns `work`. */
  add<T>(work: Promise<T>): Promise<T> {
    this.begin();
    work.then(this.end, this.end);
    return work;
  }

  /** Settles when nothing is under way any more. Never rejects. */
  async whenDone(): Promise<void> {
    // What has ended may have begun something else.
    while (this.count > 0) await (this.idle ??= new Deferred()).promise;
  }
}

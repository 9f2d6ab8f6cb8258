/** A promise that is settled from outside. Nobody has to listen: a rejection without a listener ends no process. */
export class Deferred<T = void> {
  resolve!: (value: T) => void;
  readonly promise: Promise<T>;
  private refuse!: (reason: unknown) => void;

  constructor() {
    this.promise = new Promise<T>((resolve, reject) => {
      this.resolve = resolve;
      this.refuse = reject;
    });
  }

  reject(reason: unknown): void {
    this.promise.catch(() => undefined);
    this.refuse(reason);
  }
}

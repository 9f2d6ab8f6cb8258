import { Observable, Subject, Subscriber, type Observer, type Operator, type Subscription } from 'rxjs';
import { runInFrame } from './turn-scope.js';

type Listener<T> = Partial<Observer<T>> | ((value: T) => void) | null | undefined;

/**
 * An observable whose subscribers cannot take the process down.
 *
 * rxjs rethrows what a subscriber throws as an uncaught exception. A listener that only counts expirations must not
 * be able to end the application, so here its error goes to `onError` and it stays subscribed.
 */
export class StateEventStream<T> extends Observable<T> {
  constructor(private readonly onError: (error: unknown) => void) {
    super();
  }

  // `lift` is how rxjs makes a piped observable: it has to be one of these again, or `events$.pipe(...)` would lose
  // the protection.
  override lift<R>(operator?: Operator<T, R>): Observable<R> {
    const lifted = new StateEventStream<R>(this.onError);
    lifted.source = this;
    lifted.operator = operator as Operator<unknown, R> | undefined;
    return lifted;
  }

  override subscribe(listener?: Listener<T>): Subscription;
  override subscribe(
    next?: ((value: T) => void) | null,
    error?: ((error: unknown) => void) | null,
    complete?: (() => void) | null,
  ): Subscription;
  override subscribe(
    listener?: Listener<T>,
    error?: ((error: unknown) => void) | null,
    complete?: (() => void) | null,
  ): Subscription {
    // Operators subscribe with a Subscriber of their own, which passes errors on as it should.
    if (listener instanceof Subscriber) return super.subscribe(listener);
    const observer: Partial<Observer<T>> =
      typeof listener === 'object' && listener !== null
        ? listener
        : { ...(listener && { next: listener }), ...(error && { error }), ...(complete && { complete }) };
    return super.subscribe({
      next: (value) => this.guard(() => observer.next?.(value)),
      error: (cause: unknown) =>
        this.guard(() => (observer.error ? observer.error(cause) : this.onError(cause))),
      complete: () => this.guard(() => observer.complete?.()),
    });
  }

  private guard(call: () => void): void {
    try {
      call();
    } catch (error) {
      this.onError(error);
    }
  }
}

/** The source of a {@link StateEventStream}. */
export class StateEventSource<T> {
  readonly stream: StateEventStream<T>;
  private readonly subject = new Subject<T>();

  constructor(onError: (error: unknown) => void) {
    this.stream = new StateEventStream<T>(onError);
    this.stream.source = this.subject;
  }

  /** Whether anybody listens: what makes an event expensive to build can be skipped otherwise. */
  get observed(): boolean {
    return this.subject.observed;
  }

  /** Tells who listens, inside of no turn: in that of who committed a call of theirs would join a turn that is ending. */
  emit(event: T): void {
    if (this.observed) runInFrame(undefined, () => this.subject.next(event), undefined, undefined);
  }

  complete(): void {
    this.subject.complete();
  }
}

/** What a measurement or a span is told apart by. */
export type OtelAttributes = Record<string, string | number | readonly string[]>;

export interface OtelCounter {
  add(value: number, attributes: OtelAttributes): void;
}

export interface OtelHistogram {
  record(value: number, attributes: OtelAttributes): void;
}

interface OtelResult {
  observe(value: number, attributes: OtelAttributes): void;
}

/** What is asked for its value when it is wanted. */
export interface OtelGauge {
  addCallback(observe: (result: OtelResult) => void): void;
  removeCallback(observe: (result: OtelResult) => void): void;
}

interface OtelInstrument {
  readonly description: string;
  readonly unit: string;
  readonly advice?: { readonly explicitBucketBoundaries: number[] };
}

export interface OtelMeter {
  createHistogram(name: string, options: OtelInstrument): OtelHistogram;
  createCounter(name: string, options: OtelInstrument): OtelCounter;
  createObservableGauge(name: string, options: OtelInstrument): OtelGauge;
}

export interface OtelSpan {
  setStatus(status: { readonly code: number }): unknown;
  end(endTime: number): void;
}

/** Where a span belongs. */
export type OtelContext = object;

export interface OtelTracer {
  startSpan(
    name: string,
    options: { readonly startTime: number; readonly attributes: OtelAttributes },
    context: OtelContext,
  ): OtelSpan;
}

interface OtelTracerProvider {
  getTracer(name: string): OtelTracer;
  getDelegate?(): object;
}

/** As much of the package `@opentelemetry/api` as is used, told by its shape: applications need not have it. */
export interface OtelApi {
  readonly context: { active(): OtelContext };
  readonly metrics: { getMeterProvider(): { getMeter(name: string): OtelMeter } };
  readonly trace: { getTracerProvider(): OtelTracerProvider };
  readonly createNoopMeter?: () => OtelMeter;
  readonly ProxyTracerProvider?: new () => OtelTracerProvider;
}

/** What spans and metrics of this package are found under. */
const SCOPE = 'nestjs-state';

/** The package, where the application has it. */
export async function loadOtelApi(): Promise<OtelApi | undefined> {
  try {
    return (await import('@opentelemetry/api')) as unknown as OtelApi;
  } catch {
    return undefined;
  }
}

/** Where to measure to; `undefined` where measuring leads nowhere, which would cost all the same. */
export function meterOf(api: OtelApi): OtelMeter | undefined {
  const meter = api.metrics.getMeterProvider().getMeter(SCOPE);
  return meter === api.createNoopMeter?.() ? undefined : meter;
}

/** Where to trace to; `undefined` where that leads nowhere. */
export function tracerOf(api: OtelApi): OtelTracer | undefined {
  const provider = api.trace.getTracerProvider();
  // What the API gives everybody stands for a provider that may come; until then it stands for one that does nothing.
  const nothing = api.ProxyTracerProvider && new api.ProxyTracerProvider().getDelegate?.();
  return nothing !== undefined && provider.getDelegate?.() === nothing
    ? undefined
    : provider.getTracer(SCOPE);
}

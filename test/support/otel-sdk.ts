import { context, metrics, trace, type Attributes } from '@opentelemetry/api';
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks';
import {
  AggregationTemporality,
  DataPointType,
  InMemoryMetricExporter,
  MeterProvider,
  PeriodicExportingMetricReader,
} from '@opentelemetry/sdk-metrics';
import {
  BasicTracerProvider,
  InMemorySpanExporter,
  SimpleSpanProcessor,
} from '@opentelemetry/sdk-trace-base';

/** An SDK of the application that keeps what it is told. */
export class Sdk {
  readonly spans = new InMemorySpanExporter();
  private readonly exporter = new InMemoryMetricExporter(AggregationTemporality.CUMULATIVE);
  private readonly reader = new PeriodicExportingMetricReader({
    exporter: this.exporter,
    exportIntervalMillis: 2_000_000_000,
  });
  private readonly meters = new MeterProvider({ readers: [this.reader] });

  register(): void {
    metrics.setGlobalMeterProvider(this.meters);
    trace.setGlobalTracerProvider(
      new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(this.spans)] }),
    );
    context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
  }

  /** What each metric says: the sum of a counter or a gauge, count and sum of a histogram, by `by` where that is given. */
  async figures(by?: string): Promise<Record<string, unknown>> {
    this.exporter.reset();
    await this.reader.forceFlush();
    const figures: Record<string, number> = {};
    const add = (name: string, attributes: Attributes, value: number): void => {
      const key = by === undefined ? name : `${name} ${String(attributes[by])}`;
      figures[key] = (figures[key] ?? 0) + value;
    };
    const told = this.exporter.getMetrics().flatMap(({ scopeMetrics }) => scopeMetrics);
    for (const metric of told.flatMap((scope) => scope.metrics)) {
      const { name } = metric.descriptor;
      if (metric.dataPointType === DataPointType.HISTOGRAM) {
        for (const { attributes, value } of metric.dataPoints) {
          add(`${name}.count`, attributes, value.count);
          add(`${name}.sum`, attributes, value.sum ?? 0);
        }
      } else if (metric.dataPointType === DataPointType.SUM || metric.dataPointType === DataPointType.GAUGE) {
        for (const { attributes, value } of metric.dataPoints) add(name, attributes, value);
      }
    }
    return figures;
  }

  outcomes(): string[] {
    return this.spans
      .getFinishedSpans()
      .map(({ name, attributes }) => `${name}: ${String(attributes['nestjs_state.outcome'])}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    metrics.disable();
    trace.disable();
    context.disable();
    await this.meters.shutdown();
  }
}

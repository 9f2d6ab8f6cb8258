import type { StateEventType, StateStats } from '../managers/state.manager.js';
import type { OtelAttributes, OtelCounter, OtelGauge, OtelHistogram, OtelMeter } from './otel-api.js';

/** Locks are held for microseconds in memory, for seconds where something is wrong. In seconds. */
const BUCKETS = [0.000_01, 0.000_1, 0.000_5, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60];

/** Which events are counted, as what. */
const COUNTED: Partial<Record<StateEventType, readonly [name: string, description: string, unit: string]>> = {
  expired: ['nestjs_state.expirations', 'States that were idle for too long.', '{state}'],
  evicted: ['nestjs_state.evictions', 'States that made room for others.', '{state}'],
  'lock-lost': ['nestjs_state.locks.lost', 'Turns that lost their lock before they were stored.', '{lock}'],
};

/** The metrics of a manager. */
export class StateMetrics {
  private readonly waits: OtelHistogram;
  private readonly holds: OtelHistogram;
  private readonly commits: OtelCounter;
  private readonly rollbacks: OtelCounter;
  private readonly events = new Map<StateEventType, OtelCounter>();
  private readonly stopGauges: (() => void)[] = [];

  constructor(
    meter: OtelMeter,
    private readonly mode: OtelAttributes,
    stats: () => StateStats,
  ) {
    const seconds = { unit: 's', advice: { explicitBucketBoundaries: BUCKETS } };
    this.waits = meter.createHistogram('nestjs_state.lock.wait', {
      description: 'How long turns have waited for their lock.',
      ...seconds,
    });
    this.holds = meter.createHistogram('nestjs_state.lock.hold', {
      description: 'How long turns have held their lock.',
      ...seconds,
    });
    this.commits = meter.createCounter('nestjs_state.commits', {
      description: 'Turns that were committed.',
      unit: '{turn}',
    });
    this.rollbacks = meter.createCounter('nestjs_state.rollbacks', {
      description: 'Turns that were given up, or could not be committed.',
      unit: '{turn}',
    });
    for (const [type, [name, description, unit]] of Object.entries(COUNTED))
      this.events.set(type as StateEventType, meter.createCounter(name, { description, unit }));
    const gauge = (name: string, description: string, unit: string): OtelGauge =>
      meter.createObservableGauge(name, { description, unit });
    this.observe(gauge('nestjs_state.states', 'Stored states.', '{state}'), () => stats().states);
    this.observe(
      gauge('nestjs_state.turns.open', 'Turns that hold their lock.', '{turn}'),
      () => stats().openTurns,
    );
    this.observe(
      gauge('nestjs_state.waiters', 'Callers that wait for a lock.', '{caller}'),
      () => stats().waiting,
    );
  }

  waited(ms: number, attributes: OtelAttributes): void {
    this.waits.record(ms / 1_000, attributes);
  }

  held(ms: number, attributes: OtelAttributes): void {
    this.holds.record(ms / 1_000, attributes);
  }

  committed(attributes: OtelAttributes): void {
    this.commits.add(1, attributes);
  }

  rolledBack(attributes: OtelAttributes): void {
    this.rollbacks.add(1, attributes);
  }

  happened(type: StateEventType, states: readonly string[]): void {
    const counter = this.events.get(type);
    if (counter === undefined) return;
    if (type === 'lock-lost') counter.add(1, this.mode);
    else for (const state of states) counter.add(1, { ...this.mode, 'nestjs_state.state': state });
  }

  /** Nobody is asked for gauges any more. */
  stop(): void {
    for (const stop of this.stopGauges.splice(0)) stop();
  }

  private observe(gauge: OtelGauge, read: () => number | undefined): void {
    const callback: Parameters<OtelGauge['addCallback']>[0] = (result) => {
      const value = read();
      if (value !== undefined) result.observe(value, this.mode);
    };
    gauge.addCallback(callback);
    this.stopGauges.push(() => gauge.removeCallback(callback));
  }
}

import type { ManagedTurn } from '../managers/managed-turn.js';
import type { StateEventType, StateManagerMode, StateStats } from '../managers/state.manager.js';
import { LockExpiredError, StateError } from '../state.errors.js';
import {
  loadOtelApi,
  meterOf,
  tracerOf,
  type OtelApi,
  type OtelAttributes,
  type OtelContext,
  type OtelTracer,
} from './otel-api.js';
import { StateMetrics } from './state-metrics.js';

/** What has become of a turn. `failed`: the store did not take its commit. `refused`: it never had its lock. */
type Outcome = 'committed' | 'rolled-back' | 'lost' | 'failed' | 'refused';

/** How a turn went: when it was over, by the time of day, and how long it waited for its lock and held it. */
interface TurnRun {
  readonly outcome: Outcome;
  readonly endMs: number;
  readonly waitMs: number;
  readonly holdMs: number;
}

/** The status of a span that went wrong, as OpenTelemetry numbers it. */
const STATUS_ERROR = 2;

/**
 * Tells OpenTelemetry what the turns of a manager do: a span for each, and metrics. Never an ident, nor a hash of one.
 *
 * There is one only where an SDK listens. Guarantee: what an SDK throws disturbs no turn.
 */
export class StateTelemetry {
  /** For a manager that has just been opened; `undefined` where nobody listens. */
  static async open(mode: StateManagerMode, stats: () => StateStats): Promise<StateTelemetry | undefined> {
    const api = await loadOtelApi();
    if (api === undefined) return undefined;
    const meter = meterOf(api);
    const tracer = tracerOf(api);
    if (meter === undefined && tracer === undefined) return undefined;
    const attributes = { 'nestjs_state.mode': mode };
    return new StateTelemetry(api, attributes, tracer, meter && new StateMetrics(meter, attributes, stats));
  }

  private constructor(
    private readonly api: OtelApi,
    private readonly mode: OtelAttributes,
    private readonly tracer: OtelTracer | undefined,
    private readonly metrics: StateMetrics | undefined,
  ) {}

  /** Where the turn that is being opened belongs: it may be ended by a timer, or by somebody else. */
  context(): OtelContext | undefined {
    return safely(() => this.api.context.active());
  }

  /** `turn` has given up its lock, or lost it. */
  ended(turn: ManagedTurn, nowMs: number): void {
    const { outcome, answer } = turn;
    const holdMs = nowMs - turn.openedAtMs;
    const waitMs = turn.waitsSinceMs === undefined ? 0 : turn.openedAtMs - turn.waitsSinceMs;
    const endMs = wallClockMs();
    const attributes = this.attributesOf(turn);
    safely(() => {
      this.metrics?.waited(waitMs, attributes);
      this.metrics?.held(holdMs, attributes);
      if (outcome === 'rolled-back') this.metrics?.rolledBack(attributes);
    });
    const tell = (became: Outcome): void =>
      safely(() => {
        if (became === 'committed') this.metrics?.committed(attributes);
        this.trace(turn, attributes, { outcome: became, endMs, waitMs, holdMs });
      });
    if (outcome !== 'committed' || answer === undefined) tell(outcome === 'open' ? 'rolled-back' : outcome);
    else
      answer.then(
        () => tell('committed'),
        (error: unknown) => tell(error instanceof LockExpiredError ? 'lost' : 'failed'),
      );
  }

  /** Lets `opening` be, and tells of a turn that never got its lock. */
  async follow<T>(turn: ManagedTurn, opening: Promise<T>, now: () => number): Promise<T> {
    turn.context = this.context();
    try {
      return await opening;
    } catch (error) {
      // One that got its lock and gave it up at once, because its caller had left, has been told of.
      if (turn.outcome === 'open') this.refused(turn, error, now());
      throw error;
    }
  }

  happened(type: StateEventType, states: readonly string[]): void {
    safely(() => this.metrics?.happened(type, states));
  }

  stop(): void {
    safely(() => this.metrics?.stop());
  }

  private refused(turn: ManagedTurn, error: unknown, nowMs: number): void {
    safely(() => {
      const waitMs = nowMs - (turn.waitsSinceMs ?? nowMs);
      const attributes = {
        ...this.attributesOf(turn),
        'error.type': error instanceof StateError ? error.code : 'aborted',
      };
      this.metrics?.waited(waitMs, attributes);
      this.trace(turn, attributes, { outcome: 'refused', endMs: wallClockMs(), waitMs, holdMs: 0 });
    });
  }

  private trace(turn: ManagedTurn, attributes: OtelAttributes, run: TurnRun): void {
    if (this.tracer === undefined) return;
    const { outcome, endMs, waitMs, holdMs } = run;
    const options = {
      startTime: endMs - holdMs - waitMs,
      attributes: {
        ...attributes,
        'nestjs_state.states': statesOf(turn),
        'nestjs_state.outcome': outcome,
        'nestjs_state.lock.wait': waitMs / 1_000,
        'nestjs_state.lock.hold': holdMs / 1_000,
      },
    };
    const parent = turn.context ?? this.api.context.active();
    const span = this.tracer.startSpan(`state ${turn.handler}`, options, parent);
    if (outcome !== 'committed' && outcome !== 'rolled-back') span.setStatus({ code: STATUS_ERROR });
    span.end(endMs);
  }

  private attributesOf(turn: ManagedTurn): OtelAttributes {
    return { ...this.mode, 'nestjs_state.handler': turn.handler };
  }
}

function statesOf(turn: ManagedTurn): readonly string[] {
  return [...new Set(turn.usedStates.map(({ definition }) => definition.name))].toSorted();
}

/** The time of day to fractions of a millisecond: turns are that short. */
function wallClockMs(): number {
  return performance.timeOrigin + performance.now();
}

function safely<T>(tell: () => T): T | undefined {
  try {
    return tell();
  } catch {
    // What listens has failed. A turn has nothing to do with that.
    return undefined;
  }
}

import { randomBytes } from 'node:crypto';
import { Inject, Injectable, type OnModuleDestroy } from '@nestjs/common';
import { SystemClock } from '../internal/clock.js';
import { LockingStateManager } from '../managers/locking-state.manager.js';
import type { StateInspection } from '../managers/state-inspection.js';
import { StateManager } from '../managers/state.manager.js';
import { STATE_OPTIONS } from '../state.constants.js';
import type { ResolvedStateOptions } from '../state.options.js';
import { CensusTaker, type LastCensus } from './census-taker.js';
import { ExpirationMeter, type Expirations } from './expiration-meter.js';
import { shownOptions, type ShownOption } from './shown-options.js';

/** How many turns are shown. */
const TURNS = 20;
/** Of how many idents the sizes are looked at. */
const MEASURED = 200;

/** What the page shows, as this process sees it. Idents are in it as hashes only. */
export interface InspectorReport extends StateInspection, Partial<LastCensus> {
  /** Tells the processes apart that answer under one address. */
  readonly process: string;
  readonly uptimeMs: number;
  readonly expirations: Expirations;
  readonly options: readonly ShownOption[];
}

/** Puts together what there is to see. Cost: small, and the same whatever is stored; what takes time runs beside it. */
@Injectable()
export class StateInspector implements OnModuleDestroy {
  private readonly process = randomBytes(3).toString('hex');
  private readonly clock = new SystemClock();
  private readonly startMs = this.clock.nowMs();
  private readonly expirations: ExpirationMeter;
  private readonly census: CensusTaker | undefined;
  private readonly options: readonly ShownOption[];

  constructor(
    @Inject(StateManager) private readonly states: StateManager,
    @Inject(STATE_OPTIONS) options: ResolvedStateOptions,
  ) {
    this.expirations = new ExpirationMeter(states, this.clock);
    this.options = shownOptions(options);
    // An application may have put a manager of its own in the place of ours.
    if (states instanceof LockingStateManager)
      this.census = new CensusTaker(() => states.takeCensus(MEASURED), this.clock);
  }

  onModuleDestroy(): void {
    this.expirations.stop();
  }

  report(): InspectorReport {
    return {
      process: this.process,
      uptimeMs: Math.round(this.clock.nowMs() - this.startMs),
      ...this.states.inspect(TURNS),
      expirations: this.expirations.look(),
      ...this.census?.look(),
      options: this.options,
    };
  }
}

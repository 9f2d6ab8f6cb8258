export {
  InjectState,
  InjectStateSession,
  StateIdent,
  type InjectStateOptions,
} from './decorators/inject-state.decorator.js';
export { OnState, type StateHookMethod } from './decorators/on-state.decorator.js';
export { State, type StateDeclaration } from './decorators/state.decorator.js';
export {
  StateHealthIndicator,
  type StateHealth,
  type StateHealthThresholds,
} from './health/state-health.indicator.js';
export type { IdentOfContext } from './injection/injected-state.js';
export { RequestStates } from './injection/request-states.js';
export { StateSession } from './injection/state-session.js';
export { StateTokenResolver } from './injection/state-token.resolver.js';
export { StateGuard } from './injection/state.guard.js';
export { StateInterceptor } from './injection/state.interceptor.js';
export type { StateInspectorOptions } from './inspector/inspector.options.js';
export { StateInspectorModule } from './inspector/state-inspector.module.js';
export type { Duration } from './internal/duration.js';
export type { JsonPatchOperation } from './internal/json-patch.js';
export { StateContext } from './managers/state-context.js';
export type { InspectedTurn, InspectedWaiter, StateInspection } from './managers/state-inspection.js';
export type { StateHookEvent, StateHookReason } from './managers/state-hooks.js';
export {
  StateManager,
  type StateEvent,
  type StateEventType,
  type StateManagerMode,
  type StateStats,
  type StateTurn,
  type TurnOptions,
} from './managers/state.manager.js';
export { toEvents, type StateChangeEvent } from './managers/watch/to-events.js';
export type { StateChange, StateChangeReason } from './managers/watch/state-change.js';
export { STATE_OPTIONS } from './state.constants.js';
export {
  InvalidStateManagerModeError,
  InvalidStateOptionsError,
  InvalidStateTokenError,
  LockExpiredError,
  LockTimeoutError,
  STATE_ERROR_CODES,
  StateError,
  StateManagerClosedError,
  StateSerializationError,
  StateStoreUnavailableError,
  TooManyWaitersError,
  type InvalidStateTokenReason,
  type StateErrorCode,
} from './state.errors.js';
export { StateModule } from './state.module.js';
export type { StateModuleAsyncOptions, StateOptionsFactory } from './state.module-definition.js';
export type {
  DiskStateOptions,
  MemoryStateOptions,
  OnMissingToken,
  RedisStateOptions,
  ResolvedStateOptions,
  StateModuleOptions,
  StateTokenOptions,
  StateTokenResolverOption,
  TokenSameSite,
} from './state.options.js';
export { StateToken } from './state.token.js';
export type { Immutable } from 'immer';

/** Injection token of the {@link ResolvedStateOptions} in force. */
export const STATE_OPTIONS = Symbol.for('nestjs-state:options');

/** Metadata of a handler: the states it has injected. */
export const STATE_PARAMETERS = 'nestjs-state:parameters';
/** Metadata of a method: the events of states it is called for. */
export const STATE_HOOKS = 'nestjs-state:hooks';
/** Metadata of a handler: its guard and interceptor have been put in their places. */
export const STATE_ENHANCERS_PLACED = 'nestjs-state:enhancers-placed';

// Metadata keys of Nest. They are the same in 11 and 12, and stand here because the paths to import them from are not.
export const NEST_GUARDS = '__guards__';
export const NEST_INTERCEPTORS = '__interceptors__';
export const NEST_GATEWAY = 'websockets:is_gateway';
export const DESIGN_PARAMTYPES = 'design:paramtypes';

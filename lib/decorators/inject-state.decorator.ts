import {
  createParamDecorator,
  UseGuards,
  UseInterceptors,
  type ExecutionContext,
  type Type,
} from '@nestjs/common';
import {
  addInjectedParameter,
  type IdentOfContext,
  type InjectedParameter,
} from '../injection/injected-state.js';
import { StateGuard } from '../injection/state.guard.js';
import { StateInterceptor } from '../injection/state.interceptor.js';
import { currentFrame } from '../managers/turn-scope.js';
import { DESIGN_PARAMTYPES } from '../state.constants.js';
import { STATE_ERROR_CODES, StateError } from '../state.errors.js';

/** What `@InjectState()` injects. */
export interface InjectStateOptions {
  /** The state class. @default the type of the parameter */
  type?: Type<unknown>;
  /** Inject the committed, immutable snapshot: takes no lock, never waits. @default false */
  readonly?: boolean;
  /** Whose state it is: a room, a tenant. @default the client's own ident */
  ident?: IdentOfContext;
}

/** Types that say nothing of the class: what interfaces, unions and built-in types leave in the metadata. */
const NO_STATE_CLASSES: ReadonlySet<unknown> = new Set<unknown>([
  undefined,
  Object,
  Array,
  String,
  Number,
  Boolean,
  Function,
  Promise,
  Map,
  Set,
]);

/**
 * Injects a state into a handler of a controller, a gateway or a microservice: locked, mutable, committed when the
 * handler succeeds, rolled back when it throws. It binds {@link StateGuard} and {@link StateInterceptor}.
 *
 * The class is the type of the parameter; for interfaces and unions give it: `@InjectState(CartState)`. Where it
 * cannot be found, the application does not start.
 */
export function InjectState(typeOrOptions: Type<unknown> | InjectStateOptions = {}): ParameterDecorator {
  const options = typeof typeOrOptions === 'function' ? { type: typeOrOptions } : typeOrOptions;
  return (target, key, index) => {
    if (key === undefined)
      throw new TypeError('@InjectState() is for parameters of methods, not of constructors.');
    const type = options.type ?? declaredType(target, key, index);
    bindParameter(target, key, {
      index,
      injects: 'state',
      type,
      readonly: options.readonly ?? false,
      ident: options.ident,
      isTypeMissing: type === undefined,
    });
  };
}

/** Injects the ident of the client: the credential itself, so it belongs into no log. Takes no lock. */
export function StateIdent(): ParameterDecorator {
  return withoutState('ident', '@StateIdent()');
}

/**
 * Injects the {@link StateSession} of the client, which can give it a new ident and end it. Takes no lock; a handler that
 * has a state of the client injected as well does all of it in one turn.
 */
export function InjectStateSession(): ParameterDecorator {
  return withoutState('session', '@InjectStateSession()');
}

function withoutState(injects: 'ident' | 'session', name: string): ParameterDecorator {
  return (target, key, index) => {
    if (key === undefined) throw new TypeError(`${name} is for parameters of methods, not of constructors.`);
    bindParameter(target, key, {
      index,
      injects,
      type: undefined,
      readonly: true,
      ident: undefined,
      isTypeMissing: false,
    });
  };
}

function declaredType(target: object, key: string | symbol, index: number): Type<unknown> | undefined {
  const types = Reflect.getMetadata(DESIGN_PARAMTYPES, target, key) as unknown[] | undefined;
  const type = types?.[index];
  return NO_STATE_CLASSES.has(type) ? undefined : (type as Type<unknown>);
}

function bindParameter(target: object, key: string | symbol, parameter: InjectedParameter): void {
  const descriptor = Object.getOwnPropertyDescriptor(target, key) as TypedPropertyDescriptor<object>;
  const isFirst = addInjectedParameter(descriptor.value as object, parameter);
  if (isFirst) {
    UseGuards(StateGuard)(target, key, descriptor);
    UseInterceptors(StateInterceptor)(target, key, descriptor);
  }
  hideFromPipes(target, key, parameter.index);
  injectPrepared(parameter.index)(target, key, parameter.index);
}

/**
 * A global `ValidationPipe({ transform: true, validateCustomDecorators: true })` replaces an argument by an instance
 * of its declared class: a copy, whose changes nobody would store. It goes by this metadata, and leaves `Object` alone.
 */
function hideFromPipes(target: object, key: string | symbol, index: number): void {
  const types = Reflect.getMetadata(DESIGN_PARAMTYPES, target, key) as unknown[] | undefined;
  if (types === undefined) return;
  const hidden = [...types];
  hidden[index] = Object;
  Reflect.defineMetadata(DESIGN_PARAMTYPES, hidden, target, key);
}

/** Hands over what {@link StateInterceptor} has prepared for the handler it is calling. */
const injectPrepared = createParamDecorator((index: number, context: ExecutionContext): unknown => {
  const injected = currentFrame()?.injected;
  if (injected !== undefined && index in injected) return injected[index];
  throw new StateError(
    STATE_ERROR_CODES.turnEnded,
    `${context.getClass().name}.${context.getHandler().name} was called without StateInterceptor. Is StateModule imported?`,
  );
});

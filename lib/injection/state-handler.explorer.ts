import { Inject, Injectable } from '@nestjs/common';
import { MetadataScanner, ModulesContainer } from '@nestjs/core';
import { definitionOf, type StateDefinition } from '../internal/state-definition.js';
import { NEST_GATEWAY, NEST_GUARDS, NEST_INTERCEPTORS, STATE_ENHANCERS_PLACED } from '../state.constants.js';
import { InvalidStateOptionsError } from '../state.errors.js';
import { rememberHandshakes } from './handshake.js';
import { addInjectedParameter, injectedParameters } from './injected-state.js';
import { StateGuard } from './state.guard.js';
import { StateInterceptor } from './state.interceptor.js';

interface Handler {
  readonly name: string;
  readonly callback: object;
}

/** A method of a class, which may be a handler. */
interface Method extends Handler {
  readonly key: string;
  readonly prototype: object;
}

/**
 * Looks at every handler with an injected state before Nest binds it: checks its states, and puts the guard after the
 * other guards and the interceptor inside the other interceptors of the method.
 */
@Injectable()
export class StateHandlerExplorer {
  /** @throws {InvalidStateOptionsError} naming every handler whose states cannot be injected. */
  constructor(@Inject(ModulesContainer) modules: ModulesContainer) {
    const problems = problemsOfImports(modules);
    const classes = new Map<string, StateDefinition>();
    for (const metatype of metatypesOf(modules)) {
      const methods = methodsOf(metatype);
      problems.push(...methods.flatMap(inheritParameters));
      const handlers = methods.filter(({ callback }) => injectedParameters(callback) !== undefined);
      for (const handler of handlers) {
        problems.push(...problemsOf(handler, classes));
        placeEnhancers(handler.callback);
      }
      if (handlers.length > 0 && Reflect.hasMetadata(NEST_GATEWAY, metatype)) {
        rememberHandshakes(metatype.prototype as object);
      }
    }
    if (problems.length > 0) throw new InvalidStateOptionsError(problems);
  }
}

function problemsOfImports(modules: ModulesContainer): string[] {
  const copies = [...modules.values()].filter(({ providers }) => providers.has(StateHandlerExplorer)).length;
  return copies < 2
    ? []
    : [
        `StateModule is imported ${copies} times, and each would have states of its own. Import it once, in the root module: it is global.`,
      ];
}

type Metatype = (new (...args: unknown[]) => unknown) & { prototype: unknown };

function metatypesOf(modules: ModulesContainer): Set<Metatype> {
  const metatypes = new Set<Metatype>();
  for (const { controllers, providers } of modules.values()) {
    for (const { metatype } of [...controllers.values(), ...providers.values()]) {
      if (typeof metatype === 'function' && typeof metatype.prototype === 'object')
        metatypes.add(metatype as Metatype);
    }
  }
  return metatypes;
}

function methodsOf({ name, prototype }: Metatype): Method[] {
  const methods = prototype as Record<string, object>;
  return new MetadataScanner()
    .getAllMethodNames(methods)
    .map((key) => ({ name: `${name}.${key}`, callback: methods[key] as object, key, prototype: methods }));
}

/**
 * What is wrong with a method that overrides a handler: Nest hands it the parameters of that one. Those that it has not
 * declared itself are prepared for it as well; but where it has declared none Nest does not know of the guard and the
 * interceptor that do so, and it is too late to tell it.
 */
function inheritParameters({ name, callback, key, prototype }: Method): string[] {
  const own = injectedParameters(callback);
  // One without any decorator is no handler, and nobody but the class itself calls it.
  if (Reflect.getOwnMetadataKeys(callback).length === 0) return [];
  for (let parent: unknown = prototype; parent !== null; parent = Object.getPrototypeOf(parent)) {
    const overridden: unknown = Object.getOwnPropertyDescriptor(parent, key)?.value;
    if (typeof overridden !== 'function' || overridden === callback) continue;
    const inherited = injectedParameters(overridden) ?? [];
    if (own === undefined && inherited.length > 0) {
      return [
        `${name}: it overrides a handler with injected parameters, and Nest hands it those as well. Decorate them again.`,
      ];
    }
    for (const parameter of inherited) {
      const isKnown = injectedParameters(callback)?.some(({ index }) => index === parameter.index) === true;
      if (!isKnown) addInjectedParameter(callback, parameter);
    }
  }
  return [];
}

function problemsOf({ name, callback }: Handler, classes: Map<string, StateDefinition>): string[] {
  const problems: string[] = [];
  for (const { index, type, isTypeMissing } of injectedParameters(callback) ?? []) {
    const parameter = `${name}, parameter ${index + 1}`;
    if (isTypeMissing) {
      problems.push(`${parameter}: its type names no state class. Say which: @InjectState(CartState).`);
    } else if (type !== undefined) {
      const definition = definitionOf(type);
      if (definition === undefined) {
        problems.push(`${parameter}: ${type.name} is not a state class. Decorate it with @State().`);
        continue;
      }
      const other = classes.get(definition.name);
      if (other !== undefined && other.cls !== definition.cls) {
        problems.push(
          `${parameter}: two state classes are named '${definition.name}'. Give one another: @State('…').`,
        );
      }
      classes.set(definition.name, definition);
    }
  }
  return problems;
}

/**
 * A parameter decorator runs before the decorators of its method, so what it bound stands first: a caller would wait
 * for the lock before a guard refuses him, and the interceptor would not see the end of the handler but that of the
 * interceptors inside it. Done once for each handler, in whatever number of applications it serves.
 */
function placeEnhancers(callback: object): void {
  if (Reflect.hasOwnMetadata(STATE_ENHANCERS_PLACED, callback)) return;
  Reflect.defineMetadata(STATE_ENHANCERS_PLACED, true, callback);
  moveFirstToEnd(callback, NEST_GUARDS, StateGuard);
  moveFirstToEnd(callback, NEST_INTERCEPTORS, StateInterceptor);
}

function moveFirstToEnd(callback: object, key: string, enhancer: unknown): void {
  const enhancers = [...((Reflect.getMetadata(key, callback) as unknown[] | undefined) ?? [])];
  const [own] = enhancers.splice(enhancers.indexOf(enhancer), 1);
  Reflect.defineMetadata(key, [...enhancers, own], callback);
}

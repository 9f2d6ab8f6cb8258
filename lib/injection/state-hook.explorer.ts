import { Inject, Injectable, Scope } from '@nestjs/common';
import { ModulesContainer } from '@nestjs/core';
import { LockingStateManager } from '../managers/locking-state.manager.js';
import { StateManager } from '../managers/state.manager.js';
import { InvalidStateOptionsError } from '../state.errors.js';
import { hookMethodsOf, problemsOfHooks } from './declared-hooks.js';

type InstanceWrapper = ReturnType<typeof wrappersOf>[number];

/** Finds the methods with `@OnState()`: checks them before anything connects, and gives them to the manager. */
@Injectable()
export class StateHookExplorer {
  /** @throws {InvalidStateOptionsError} naming every method that cannot be called. */
  constructor(
    @Inject(ModulesContainer) private readonly modules: ModulesContainer,
    @Inject(StateManager) manager: StateManager,
  ) {
    // What a provider depends on is not known yet, and asking now would settle it.
    refuse(
      wrappersOf(modules).flatMap((wrapper) => problemsOfClass(wrapper, wrapper.scope ?? Scope.DEFAULT)),
    );
    // A manager that a test has put in its place has no events.
    if (manager instanceof LockingStateManager) manager.beforeOpening(() => this.registerAll(manager));
  }

  /** @throws {InvalidStateOptionsError} naming what only shows now: dependencies, and instances of factories. */
  private registerAll(manager: LockingStateManager): void {
    // `useExisting` makes a second provider of one instance.
    const instances = new Set<object>();
    const problems: string[] = [];
    for (const wrapper of wrappersOf(this.modules)) {
      if (wrapper.isTransient || !wrapper.isDependencyTreeStatic()) {
        problems.push(...problemsOfClass(wrapper, Scope.REQUEST));
        continue;
      }
      const instance: unknown = wrapper.instance;
      if (!isObject(instance) || instances.has(instance)) continue;
      instances.add(instance);
      problems.push(...this.register(instance, manager));
    }
    refuse(problems);
  }

  private register(instance: object, manager: LockingStateManager): string[] {
    const prototype: unknown = Object.getPrototypeOf(instance);
    const methods = isObject(prototype) ? hookMethodsOf(prototype) : [];
    const owner = methods.length > 0 ? instance.constructor.name : '';
    const problems = problemsOfHooks(owner, methods);
    if (problems.length > 0) return problems;
    for (const { key, declared } of methods) {
      const call = (...args: unknown[]): unknown =>
        (instance as Record<string, (...args: unknown[]) => unknown>)[key]?.(...args);
      for (const { cls, reason } of declared) manager.addHook({ cls, reason, name: `${owner}.${key}`, call });
    }
    return [];
  }
}

function wrappersOf(modules: ModulesContainer) {
  return [...modules.values()].flatMap(({ controllers, providers }) => [
    ...controllers.values(),
    ...providers.values(),
  ]);
}

function problemsOfClass({ metatype }: InstanceWrapper, scope: Scope): string[] {
  const prototype: unknown = typeof metatype === 'function' ? metatype.prototype : undefined;
  if (!isObject(prototype)) return [];
  const owner = metatype?.name ?? '';
  const methods = hookMethodsOf(prototype);
  const problems = problemsOfHooks(owner, methods);
  if (methods.length === 0 || scope === Scope.DEFAULT) return problems;
  const hooks = methods.map(({ key }) => `${owner}.${key}`).join(', ');
  return [
    ...problems,
    `${hooks}, @OnState(): ${owner} is made anew for each request or each injection, so there is none to be called. ` +
      'Move the method to a provider of the default scope.',
  ];
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null;
}

function refuse(problems: readonly string[]): void {
  // One class can be a provider of several modules.
  if (problems.length > 0) throw new InvalidStateOptionsError([...new Set(problems)]);
}

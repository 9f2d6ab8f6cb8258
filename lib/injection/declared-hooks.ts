import { MetadataScanner } from '@nestjs/core';
import { definitionOf } from '../internal/state-definition.js';
import { STATE_HOOK_REASONS, type StateHook } from '../managers/state-hooks.js';
import { STATE_HOOKS } from '../state.constants.js';

/** What one `@OnState()` says. */
export type DeclaredHook = Pick<StateHook, 'cls' | 'reason'>;

/** A method with everything that its `@OnState()` say. */
export interface HookMethod {
  readonly key: string;
  readonly declared: readonly DeclaredHook[];
}

/** Adds to what a method is a hook for. */
export function addDeclaredHook(method: object, hook: DeclaredHook): void {
  Reflect.defineMetadata(STATE_HOOKS, [hook, ...declaredHooks(method)], method);
}

/** The hooks among the methods of `prototype`, inherited ones included. */
export function hookMethodsOf(prototype: object): HookMethod[] {
  return new MetadataScanner()
    .getAllMethodNames(prototype)
    .map((key) => ({ key, declared: declaredHooks((prototype as Record<string, object>)[key] as object) }))
    .filter(({ declared }) => declared.length > 0);
}

/** What keeps them from being called, one text each. */
export function problemsOfHooks(owner: string, methods: readonly HookMethod[]): string[] {
  return methods.flatMap(({ key, declared }) =>
    declared.flatMap(({ cls, reason }) => {
      const where = `${owner}.${key}, @OnState()`;
      const problems: string[] = [];
      if (definitionOf(cls) === undefined)
        problems.push(`${where}: ${nameOf(cls)} is not a state class. Decorate it with @State().`);
      if (!STATE_HOOK_REASONS.includes(reason))
        problems.push(
          `${where}: ${JSON.stringify(reason)} is no event. Choose one of ${STATE_HOOK_REASONS.join(', ')}.`,
        );
      return problems;
    }),
  );
}

function declaredHooks(method: object): readonly DeclaredHook[] {
  return (Reflect.getMetadata(STATE_HOOKS, method) as readonly DeclaredHook[] | undefined) ?? [];
}

function nameOf(cls: unknown): string {
  return typeof cls === 'function' ? cls.name : String(cls);
}

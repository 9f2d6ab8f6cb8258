import type { OnModuleDestroy, OnModuleInit } from '@nestjs/common';
import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type { StateManager, StateManagerMode, StateModuleOptions } from 'nestjs-state';

/** A manager as the application has it: with its lifecycle hooks. */
export type OpenManager = StateManager & OnModuleInit & OnModuleDestroy;

/** What one manager, on one clock, offers to the suites. They use nothing else of it but its public API. */
export interface ConformanceHarness {
  /** What the report calls it. */
  readonly name: string;
  readonly mode: StateManagerMode;
  /** With a fake clock hours pass in no time; with the real one they are left out. */
  readonly clock: 'fake' | 'real';
  /** A manager on an empty store, `onModuleInit` done. */
  open(options?: StateModuleOptions): Promise<OpenManager>;
  /** Another manager, as in another process, on the store of the last `open`. Missing where no store can be shared. */
  readonly openSecond?: (options?: StateModuleOptions) => Promise<OpenManager>;
  /** No message from one process to another, or to itself, arrives. */
  readonly losesMessages?: boolean;
  /** Lets `ms` pass. */
  advance(ms: number): Promise<void>;
  /** Lets `ms` pass while the event loop is blocked: no timer fires. */
  block(ms: number): void;
  /** Closes every manager and empties the store. */
  close(): Promise<void>;
}

/** An ident no other test uses. */
export function newIdent(): string {
  return `ident-${randomUUID()}`;
}

/** Ends the current tick, and lets everything happen that is on its way already. */
export function tick(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** Lets `ms` pass, and not a fraction less: the timers of Node count whole milliseconds, and may be early by one. */
export async function passTime(ms: number): Promise<void> {
  const endMs = performance.now() + ms;
  for (let leftMs = ms; leftMs > 0; leftMs = endMs - performance.now()) await delay(leftMs);
}

/** Lets `ms` pass while nothing else can run in this process. */
export function blockLoop(ms: number): void {
  for (const endMs = performance.now() + ms; performance.now() < endMs;);
}

/** Waits for a condition that needs no time to pass, only work that is on its way. */
export async function until(condition: () => boolean, what = 'condition'): Promise<void> {
  const deadlineMs = performance.now() + 30_000;
  while (!condition()) {
    if (performance.now() > deadlineMs) throw new Error(`Never came true: ${what}`);
    await tick();
  }
}

/** Waits until `count` callers are queued. */
export function untilWaiting(manager: StateManager, count: number): Promise<void> {
  return until(() => manager.stats().waiting === count, `${count} waiting`);
}

/** What a call rejects with; resolving is a failure. */
export async function failureOf(call: Promise<unknown>): Promise<unknown> {
  let value: unknown;
  try {
    value = await call;
  } catch (error) {
    return error;
  }
  throw new Error(`Expected a rejection, got ${String(value)}.`);
}

/** Something two sides of a test meet at. */
export class Gate {
  open!: () => void;
  readonly opened = new Promise<void>((resolve) => (this.open = resolve));
}

/** Random numbers that are the same in each run. */
export function seededRandom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

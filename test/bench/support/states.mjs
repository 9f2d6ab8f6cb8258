import 'reflect-metadata';
import { Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { State, StateManager, StateModule, StateToken } from 'nestjs-state';

/** What a handler changes of a small state. */
export function visit(state) {
  state.count += 1;
  state.seenAtMs = Date.now();
}

/** The same, with an await between reading and writing: without a lock, that is where updates are lost. */
export async function visitSlowly(state) {
  const { count } = state;
  await undefined;
  state.count = count + 1;
  state.seenAtMs = Date.now();
}

/** The small state of most jobs: a counter, five strings, a timestamp. */
export class VisitorState {
  count = 0;
  name = 'Ada Lovelace';
  email = 'ada@example.com';
  city = 'London';
  theme = 'dark';
  locale = 'en-GB';
  seenAtMs = 0;
}
State('visitor')(VisitorState);

/** The same for those that know no classes. */
export function plainVisitor() {
  return { ...new VisitorState() };
}

/** A state of about that many bytes as JSON: a basket of items. */
export class BasketState {
  count = 0;
  seenAtMs = 0;
  items = [];
}
State('basket')(BasketState);

export function basketOf(bytes) {
  const basket = Object.assign(new BasketState(), { items: [] });
  const itemBytes = JSON.stringify(itemOf(100)).length + 1;
  const items = Math.max(1, Math.round((bytes - JSON.stringify(basket).length) / itemBytes));
  for (let number = 0; number < items; number += 1) basket.items.push(itemOf(100 + (number % 900)));
  return basket;
}

function itemOf(number) {
  return {
    id: `item-${number}`,
    title: 'A thing that somebody wants',
    quantity: 1,
    price: { amount: 1295, currency: 'EUR' },
  };
}

/**
 * A manager as an application has it.
 *
 * @param {import('nestjs-state').StateModuleOptions} options
 */
export async function openStates(options, logger = ['error', 'fatal']) {
  class BenchModule {}
  Module({ imports: [StateModule.forRoot(options)] })(BenchModule);
  const app = await NestFactory.createApplicationContext(BenchModule, { logger });
  return { states: app.get(StateManager), close: () => app.close() };
}

/** How many visits are stored for these idents. */
export async function totalOf(states, idents, cls = VisitorState) {
  let total = 0;
  for (const ident of idents) total += (await states.getState(new StateToken(ident, cls))).count;
  return total;
}

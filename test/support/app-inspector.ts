import { expect } from '@jest/globals';
import { StateToken, type StateManager } from 'nestjs-state';
import type { InspectorReport } from '../../lib/inspector/state-inspector.js';
import { call, type Call } from './app-http.js';
import { CartState, CounterState } from './app-states.js';
import type { TestApp } from './app.js';
import { until } from './redis-server.js';

/** Of which every ident of a test begins: what is looked for where none may be. */
export const MARK = 'ident-that-nobody-may-see';

/** Everything the inspector serves. */
export const INSPECTOR_FILES = ['', '/page.js', '/page.css', '/data'];

/** So many idents with a counter, and every fourth of them with a cart as well. */
export async function storeStates(states: StateManager, idents: number): Promise<void> {
  const storing: Promise<unknown>[] = [];
  for (let index = 0; index < idents; index += 1) {
    const token = new StateToken(`${MARK}-${index}`, CounterState);
    storing.push(states.modifyState(token, (counter) => void counter.increment()));
    if (index % 4 === 0)
      storing.push(states.modifyState(token.withClass(CartState), (cart) => cart.add('tea')));
  }
  await Promise.all(storing);
}

/** A report in which the states have been counted. */
export async function reportOf(app: TestApp, path: string, options?: Call): Promise<InspectorReport> {
  let report: InspectorReport | undefined;
  await until('the states are counted', async () => {
    const answer = await call<InspectorReport>(app, `${path}/data`, { method: 'GET', ...options });
    expect(answer.status).toBe(200);
    report = answer.body;
    return report.census !== undefined;
  });
  return report as InspectorReport;
}

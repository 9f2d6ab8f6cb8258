import { afterEach, describe, expect, it } from '@jest/globals';
import { Controller, Post } from '@nestjs/common';
import { context, trace } from '@opentelemetry/api';
import { InjectState, State } from 'nestjs-state';
import { inParallel } from '../support/app-gate.js';
import { call } from '../support/app-http.js';
import { CounterState } from '../support/app-states.js';
import { HTTP_PLATFORMS, startApp, type TestApp } from '../support/app.js';
import { Sdk } from '../support/otel-sdk.js';

@State('other-of-telemetry')
class OtherState {
  count = 0;
}

@Controller()
class CounterController {
  @Post('increment')
  async increment(@InjectState() counter: CounterState, @InjectState() other: OtherState) {
    await Promise.resolve();
    other.count += 1;
    return { count: counter.increment() };
  }

  @Post('refuse')
  refuse(@InjectState() counter: CounterState): never {
    counter.increment();
    throw new Error('refused');
  }
}

const REQUESTS = 20;
let app: TestApp;

afterEach(() => app.close());

describe.each(HTTP_PLATFORMS)('With an SDK of OpenTelemetry (%s)', (platform) => {
  it('each request has one turn in its own span, named after its handler', async () => {
    await using sdk = new Sdk();
    sdk.register();
    const requests = new Map<string, string>();
    app = await startApp({
      platform,
      controllers: [CounterController],
      // As the instrumentation of HTTP does it: a span that is active from before the guards on.
      configure: (nest) =>
        void nest.use((request: { url: string }, _response: unknown, next: () => void) => {
          const span = trace.getTracer('http').startSpan('request');
          requests.set(span.spanContext().spanId, request.url);
          context.with(trace.setSpan(context.active(), span), next);
        }),
    });
    await inParallel(REQUESTS, (index) =>
      call(app, index % 2 === 0 ? '/increment' : '/refuse', { token: `client-${index % 3}` }),
    );
    const spans = sdk.spans.getFinishedSpans();
    const seen = spans.map(({ name, parentSpanContext, attributes }) => [
      name,
      requests.get(parentSpanContext?.spanId ?? ''),
      attributes['nestjs_state.outcome'],
      attributes['nestjs_state.states'],
    ]);
    expect(new Set(spans.map(({ parentSpanContext }) => parentSpanContext?.spanId)).size).toBe(REQUESTS);
    expect(seen.toSorted()).toEqual(
      Array.from({ length: REQUESTS }, (_, index) =>
        index < REQUESTS / 2
          ? [
              'state CounterController.increment',
              '/increment',
              'committed',
              ['e2e.counter', 'other-of-telemetry'],
            ]
          : ['state CounterController.refuse', '/refuse', 'rolled-back', ['e2e.counter']],
      ),
    );
    expect(await sdk.figures('nestjs_state.handler')).toMatchObject({
      'nestjs_state.commits CounterController.increment': REQUESTS / 2,
      'nestjs_state.rollbacks CounterController.refuse': REQUESTS / 2,
      'nestjs_state.lock.wait.count CounterController.increment': REQUESTS / 2,
    });
  });
});

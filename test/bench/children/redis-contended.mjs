// One of the processes whose tasks all want the same ident.
import { setTimeout as delay } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { StateToken } from 'nestjs-state';
import { redlock, wakeUps } from '../peers/redis.mjs';
import { childArguments, serve } from '../support/child.mjs';
import { openStates, plainVisitor, visit, VisitorState } from '../support/states.mjs';

const IDENT = 'everybody';
const [{ url, tasks }] = childArguments();

const { states, close } = await openStates({
  mode: 'redis',
  redis: { url, keyPrefix: 'state:' },
  acquireTimeout: '60s',
});
const client = new Redis(url);
const subscriber = new Redis(url);
const token = new StateToken(IDENT, VisitorState);

const variants = {
  ours: {
    modify: (_ident, mutate) => states.modifyState(token, mutate),
    read: () => states.getState(token),
  },
  wakeUps: await wakeUps(client, subscriber, 'wake:', plainVisitor),
  redlock: redlock(client, 'redlock:', plainVisitor),
};

serve(
  {
    /** Takes turns from `startAtMs`, by the clock of the machine, for `durationMs`. */
    async round(variant, startAtMs, durationMs) {
      const { modify } = variants[variant];
      const waits = [];
      const answers = [];
      const turns = Array.from({ length: tasks }, () => 0);
      await delay(startAtMs - Date.now());
      const startMs = performance.now();
      const endMs = startMs + durationMs;
      await Promise.all(
        turns.map(async (_, task) => {
          for (let nowMs = startMs; nowMs < endMs;) {
            const askedMs = performance.now();
            let begunMs = 0;
            await modify(IDENT, (state) => {
              begunMs = performance.now();
              visit(state);
            });
            nowMs = performance.now();
            waits.push(begunMs - askedMs);
            answers.push(nowMs - askedMs);
            turns[task] += 1;
          }
        }),
      );
      return {
        tookMs: performance.now() - startMs,
        waits: Float64Array.from(waits),
        answers: Float64Array.from(answers),
        turns,
      };
    },
    total: async (variant) => (await variants[variant].read(IDENT)).count,
  },
  async () => {
    await close();
    client.disconnect();
    subscriber.disconnect();
  },
);

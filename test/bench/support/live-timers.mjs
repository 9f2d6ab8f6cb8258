// Counts timers that have neither fired nor been stopped, also those that do not keep the process alive: import it before
// whatever may start one.
const live = new Set();
const { setTimeout: start, clearTimeout: stop } = globalThis;

globalThis.setTimeout = (run, delayMs, ...args) => {
  const timer = start(
    (...given) => {
      live.delete(timer);
      run(...given);
    },
    delayMs,
    ...args,
  );
  live.add(timer);
  return timer;
};

globalThis.clearTimeout = (timer) => {
  live.delete(timer);
  stop(timer);
};

/** How many timers are running now. */
export function liveTimers() {
  return live.size;
}

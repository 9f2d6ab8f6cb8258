/** The processor time of this process so far, all its threads together. */
function usedMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1_000;
}

/**
 * The longest that one turn of the event loop works, from now on until `isDone`; the first is the one that calls this.
 *
 * It works no longer than passes, and no longer than all threads of the process together. So neither a machine that does
 * something else meanwhile counts, nor what the garbage collector does beside it.
 */
export async function longestWorkMs(work: () => void, isDone: () => boolean): Promise<number> {
  let longestMs = 0;
  for (let begin = work; ; begin = () => undefined) {
    const [startMs, startUsedMs] = [performance.now(), usedMs()];
    begin();
    await new Promise((resolve) => setImmediate(resolve));
    longestMs = Math.max(longestMs, Math.min(performance.now() - startMs, usedMs() - startUsedMs));
    if (isDone()) return longestMs;
  }
}

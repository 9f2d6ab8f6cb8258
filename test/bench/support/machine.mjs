import { availableParallelism, cpus, loadavg, totalmem } from 'node:os';

/** What the figures were measured on. */
export async function describeMachine(redis, isQuick) {
  const [load] = loadavg();
  const gigabytes = Math.round(totalmem() / 2 ** 30);
  return [
    `${new Date().toISOString().slice(0, 10)}${isQuick ? ', quick' : ''}: ${availableParallelism()} cores of ${cpus()[0].model.trim()}, ${gigabytes} GB,`,
    `Node ${process.version}, Redis ${await redis.version()}, load ${load.toFixed(1)} before the run.`,
  ].join(' ');
}

/** The processor time this process has had, in milliseconds: it says more than a clock where others want the processor too. */
export function cpuMs() {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1_000;
}

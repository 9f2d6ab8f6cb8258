// `npm run start:cluster`: the sample twice, on PORT and the port after it, with the states of both in one Redis.
import { fork, type ChildProcess, type ForkOptions } from 'node:child_process';
import { once } from 'node:events';
import { constants } from 'node:os';

const ports = [0, 1].map((step) => Number(process.env['PORT'] ?? 3000) + step);
const servers: ChildProcess[] = [];
let redis: ChildProcess | undefined;
let isEnding = false;

// More than once: npm passes on a Ctrl+C that the terminal has sent to this process already.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, () =>
    end(signal, () => {
      process.removeAllListeners(signal);
      process.kill(process.pid, signal);
    }),
  );
}

const url = process.env['STATE_REDIS_URL'] || process.env['REDIS_URL'] || (await startRedis());
// A signal may have come while Redis was starting.
if (!isEnding) {
  for (const port of ports) {
    const env = {
      ...process.env,
      PORT: String(port),
      STATE_MANAGER_MODE: 'redis',
      STATE_REDIS_URL: url,
    };
    servers.push(start('./main.js', { env }));
  }
  await Promise.all(servers.map((server) => once(server, 'message')));
  console.log(`Open ${ports.map((port) => `http://127.0.0.1:${port}`).join(' and ')}: one counter for both`);
}

async function startRedis(): Promise<string> {
  // A group of its own: Ctrl+C reaches the whole group of a terminal, and the servers still need Redis then.
  redis = start('./cluster-redis.js', { detached: true });
  const [ownUrl] = (await once(redis, 'message')) as [string];
  console.log(`Started a Redis of its own: ${ownUrl}`);
  return ownUrl;
}

/** Whichever process ends first ends all of them, and its code is that of the whole. */
function start(file: string, options: ForkOptions): ChildProcess {
  const child = fork(new URL(file, import.meta.url), options);
  child.once('exit', (code, signal) =>
    end('SIGTERM', () => process.exit(code ?? 128 + constants.signals[signal as NodeJS.Signals])),
  );
  return child;
}

/** The servers finish what they are doing and store it; only then Redis goes. */
async function end(signal: NodeJS.Signals, exit: () => void): Promise<void> {
  if (isEnding) return;
  isEnding = true;
  for (const server of servers) server.kill(signal);
  await Promise.all(servers.map(whenGone));
  if (redis?.connected === true) redis.disconnect();
  if (redis !== undefined) await whenGone(redis);
  exit();
}

async function whenGone(child: ChildProcess): Promise<void> {
  if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
}

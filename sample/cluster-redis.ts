// The Redis server of `npm run start:cluster` when it is given none: on a free port, for this machine only, and with
// nothing kept. It lives as long as the channel to cluster.ts, which closes with that process however it ends.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Redis } from 'ioredis';

const HOST = '127.0.0.1';

const folder = mkdtempSync(join(tmpdir(), 'nestjs-state-sample-'));
process.once('exit', () => rmSync(folder, { recursive: true, force: true }));

const port = String(await freePort());
const server = spawn(
  'redis-server',
  ['--bind', HOST, '--port', port, '--dir', folder, '--save', '', '--appendonly', 'no'],
  { stdio: ['ignore', 'ignore', 'inherit'] },
);
server.once('error', ({ message }) => {
  console.error(
    `No Redis could be started (${message}). Install one that is in PATH, on Debian and Ubuntu with ` +
      '`apt-get install redis-server`, or set REDIS_URL to one that runs.',
  );
  process.exit(1);
});
server.once('exit', (code) => process.exit(code ?? 1));
// Nothing of it is kept, so there is nothing to wait for.
const kill = () => server.kill('SIGKILL');
process.once('disconnect', kill);
process.once('SIGTERM', kill);
if (!process.connected) kill();

const url = `redis://${HOST}:${port}`;
const client = new Redis(url);
// Not there yet: it tries again.
client.on('error', () => undefined);
await client.ping();
client.disconnect();
process.send?.(url);

async function freePort(): Promise<number> {
  const probe = createServer().listen(0, HOST);
  await once(probe, 'listening');
  const { port: free } = probe.address() as AddressInfo;
  probe.close();
  await once(probe, 'close');
  return free;
}

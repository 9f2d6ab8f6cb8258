// Run by `npm test` before jest: sees to the programs that npm does not install, and builds what the e2e and package
// tests run. Changes nothing when everything is there, but for the build.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { PROGRAMS, findProgram } from './programs.mjs';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

// Installing a server on Debian starts it as a service, unless policy-rc.d forbids that. The tests start their own.
const INSTALL = `
set -e
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  trap 'rm -f "$policy"' EXIT
  trap 'exit 130' HUP INT TERM
  printf '#!/bin/sh\\nexit 101\\n' > "$policy"
  chmod 755 "$policy"
fi
export DEBIAN_FRONTEND=noninteractive
options='-o Acquire::Retries=3 -o DPkg::Lock::Timeout=120'
apt-get $options update
apt-get $options install -y --no-install-recommends "$@"
`;

try {
  provide();
  build();
} catch (error) {
  console.error(`\n[setup] ${error.message}`);
  process.exitCode = 1;
}

function provide() {
  const missing = Object.keys(PROGRAMS).filter((name) => findProgram(name) === undefined);
  if (missing.length > 0) install(missing);
  for (const name of Object.keys(PROGRAMS)) {
    const path = findProgram(name);
    if (path === undefined) throw new Error(howToInstall([name]));
    console.log(`[setup] ${name}: ${path}`);
  }
}

function install(missing) {
  const asRoot = rootCommand();
  if (asRoot === undefined) throw new Error(howToInstall(missing));
  const packages = missing.map((name) => PROGRAMS[name].debianPackage);
  console.log(`[setup] Not found: ${missing.join(', ')}. Installing ${packages.join(', ')} with apt-get.`);
  const [command, ...args] = [...asRoot, 'sh', '-c', INSTALL, 'install', ...packages];
  if (!run(command, args)) throw new Error(`Installing failed.\n${howToInstall(missing)}`);
}

/** What runs a command as root on a Debian or Ubuntu: nothing more, or sudo where it asks for no password. */
function rootCommand() {
  if (!existsSync('/etc/debian_version') || !existsSync('/usr/bin/apt-get')) return undefined;
  if (process.getuid() === 0) return [];
  const sudo = spawnSync('sudo', ['-n', 'true'], { stdio: 'ignore' });
  return sudo.status === 0 ? ['sudo', '-n'] : undefined;
}

function howToInstall(missing) {
  return [
    `The tests need ${missing.join(' and ')}: a real browser and a real server, never a stand-in.`,
    `  Debian, Ubuntu:  apt-get install ${missing.map((name) => PROGRAMS[name].debianPackage).join(' ')}`,
    `  elsewhere:       install ${missing.join(' and ')} so that it is in PATH`,
    ...missing.map((name) => `  or set ${PROGRAMS[name].variable} to where ${name} is`),
  ].join('\n');
}

function build() {
  console.log('[setup] Building the package and the sample.');
  if (!run('npm', ['run', '--silent', 'build:sample'])) throw new Error('The build failed.');
}

function run(command, args) {
  const { status, error } = spawnSync(command, args, {
    cwd: ROOT,
    stdio: ['ignore', 'inherit', 'inherit'],
    shell: process.platform === 'win32',
  });
  if (error !== undefined) throw error;
  return status === 0;
}

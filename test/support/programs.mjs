import { accessSync, constants, statSync } from 'node:fs';
import { delimiter, join } from 'node:path';

/** The programs the tests use and npm does not install: what they are called, and how to say where they are. */
export const PROGRAMS = {
  chromium: {
    variable: 'CHROMIUM_PATH',
    names: ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable'],
    places: ['/Applications/Google Chrome.app/Contents/MacOS/Google Chrome'],
    debianPackage: 'chromium',
  },
  'redis-server': {
    variable: 'REDIS_SERVER_PATH',
    names: ['redis-server'],
    places: [],
    debianPackage: 'redis-server',
  },
};

/** Where a program is, or undefined. A variable that points at nothing executable is an error, never ignored. */
export function findProgram(name) {
  const { variable, names, places } = PROGRAMS[name];
  const given = process.env[variable];
  if (given) {
    if (!isExecutable(given))
      throw new Error(`${variable} is ${JSON.stringify(given)}: not an executable file.`);
    return given;
  }
  const folders = [...(process.env.PATH ?? '').split(delimiter), '/usr/bin', '/usr/local/bin', '/snap/bin'];
  const candidates = names.flatMap((file) => folders.filter(Boolean).map((folder) => join(folder, file)));
  return [...candidates, ...places].find(isExecutable);
}

/** Where a program is; it must be there. */
export function requireProgram(name) {
  const path = findProgram(name);
  if (path !== undefined) return path;
  throw new Error(
    `${name} was not found. Run \`node test/support/setup.mjs\`, or set ${PROGRAMS[name].variable}.`,
  );
}

function isExecutable(path) {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}

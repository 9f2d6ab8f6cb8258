import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from '@jest/globals';

const ROOT = fileURLToPath(new URL('../../../..', import.meta.url));

/** An application on the built package, as plain JavaScript. It prints `ready` and has nothing left to do. */
const APPLICATION = `
  import 'reflect-metadata';
  import { Module } from '@nestjs/common';
  import { NestFactory } from '@nestjs/core';
  import { State, StateManager, StateModule, StateToken } from './dist/index.js';
  class CounterState { count = 0; }
  State()(CounterState);
  class AppModule {}
  Module({ imports: [StateModule.forRoot({ mode: 'memory', expiration: '1h' })] })(AppModule);
  const app = await NestFactory.createApplicationContext(AppModule, { logger: false });
  const states = app.get(StateManager);
  const token = new StateToken('ident', CounterState);
  await states.modifyState(token, (counter) => { counter.count += 1; });
`;

const ENDINGS: [string, string][] = [
  ['a pending expiration', ''],
  ['an open turn', `await states.openTurn('ident');`],
  [
    'an open turn and a caller who has waited for it in vain',
    `await states.openTurn('ident');
     await states.modifyState(token, () => 1, { acquireTimeout: '200ms' }).catch(() => undefined);`,
  ],
  ['a closed application', 'await app.close();'],
];

describe('an application with a memory manager', () => {
  it.each(ENDINGS)('exits by itself with %s', async (_, ending) => {
    const program = `${APPLICATION}${ending}\nconsole.log('ready');`;
    const child = spawn(process.execPath, ['--input-type=module', '--eval', program], {
      cwd: ROOT,
      env: { PATH: process.env['PATH'] },
      timeout: 50_000,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let output = '';
    child.stdout.on('data', (text) => (output += String(text)));
    child.stderr.on('data', (text) => (output += String(text)));
    const [code, signal] = (await once(child, 'close')) as [number | null, string | null];

    expect({ output, code, signal }).toStrictEqual({ output: 'ready\n', code: 0, signal: null });
  });
});

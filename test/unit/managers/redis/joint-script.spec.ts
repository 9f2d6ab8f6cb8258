import { describe, expect, it } from '@jest/globals';
import { JOINT, jointScript } from '../../../../lib/managers/redis/joint-script.js';

const numbers = (text: string, pattern: RegExp): number[] =>
  [...new Set(Array.from(text.matchAll(pattern), ([, number]) => Number(number)))].sort((a, b) => a - b);
const upTo = (count: number): number[] => Array.from({ length: count }, (_, index) => index + 1);

describe('the script joint', () => {
  const lines = JOINT.lua.split('\n');
  const headerEnd = lines.findIndex((line) => !line.startsWith('--'));
  const header = lines.slice(0, headerEnd).join('\n');
  const code = lines.slice(headerEnd).join('\n');

  it('has a header: what it is for, each key, each argument, and what it returns', () => {
    expect(headerEnd).toBeGreaterThan(2);
    expect(header).toMatch(/^-- [A-Z]/);
    expect(header).toMatch(/^-- Returns /m);
    expect(numbers(header, /KEYS\[(\d+)\]/g)).toStrictEqual(upTo(JOINT.keys));
    // Behind the fixed ones begin those of each ident.
    expect(numbers(header, /ARGV\[(\d+)\]/g)).toStrictEqual(upTo(JOINT.args + 1));
  });

  it('uses the arguments that it declares, and finds those of each ident, and their keys, by counting', () => {
    expect(numbers(code, /ARGV\[(\d+)\]/g)).toStrictEqual(upTo(JOINT.args));
    expect(numbers(code, /areHeld, isDone, done = \{\}, (\d+),/g)).toStrictEqual([JOINT.args + 1]);
    expect(numbers(code, /KEYS\[(\d+)\]/g)).toStrictEqual([]);
    expect(numbers(code, /for key = 1, #KEYS, (\d+) do/g)).toStrictEqual([JOINT.keys]);
  });

  it('is one script, whatever the number of idents', () => {
    expect(jointScript(3)).toStrictEqual({ ...JOINT, keys: 3 * JOINT.keys });
    expect(jointScript(3).sha).toBe(jointScript(2).sha);
  });
});

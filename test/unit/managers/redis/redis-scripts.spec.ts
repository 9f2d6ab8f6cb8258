import { describe, expect, it } from '@jest/globals';
import { REDIS_SCRIPTS } from '../../../../lib/managers/redis/redis-scripts.js';

const numbers = (text: string, pattern: RegExp): number[] =>
  [...new Set(Array.from(text.matchAll(pattern), ([, number]) => Number(number)))].sort((a, b) => a - b);
const upTo = (count: number): number[] => Array.from({ length: count }, (_, index) => index + 1);

describe.each(REDIS_SCRIPTS.map((script) => [script.name, script] as const))('the script %s', (_, script) => {
  const lines = script.lua.split('\n');
  const headerEnd = lines.findIndex((line) => !line.startsWith('--'));
  const header = lines.slice(0, headerEnd).join('\n');
  const code = lines.slice(headerEnd).join('\n');
  const takesPairs = code.includes('unpack(ARGV');

  it('has a header: what it is for, each key, each argument, and what it returns', () => {
    expect(headerEnd).toBeGreaterThan(2);
    expect(header).toMatch(/^-- [A-Z]/);
    expect(header).toMatch(/^-- Returns /m);
    expect(numbers(header, /KEYS\[(\d+)\]/g)).toStrictEqual(upTo(script.keys));
    expect(numbers(header, /ARGV\[(\d+)\]/g)).toStrictEqual(upTo(script.args + (takesPairs ? 2 : 0)));
  });

  it('uses the keys and arguments that it declares, and no others', () => {
    const used = numbers(code, /KEYS\[(\d+)\]/g);
    expect(Math.max(...used)).toBeLessThanOrEqual(script.keys);
    expect(numbers(code, /ARGV\[(\d+)\]/g)).toStrictEqual(upTo(script.args));
  });

  it('takes further arguments behind those that it declares, if any', () => {
    expect(numbers(code, /#ARGV > (\d+)/g)).toStrictEqual(takesPairs ? [script.args] : []);
    expect(numbers(code, /unpack\(ARGV, (\d+) \+ 1\)/g)).toStrictEqual(takesPairs ? [script.args] : []);
  });
});

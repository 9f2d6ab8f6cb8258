import { describe, expect, it } from '@jest/globals';
import { parseDurationMs } from '../../../lib/internal/duration.js';

describe('parseDurationMs', () => {
  it.each<[unknown, number]>([
    [0, 0],
    [250, 250],
    [0.5, 0.5],
    ['250', 250],
    ['250ms', 250],
    ['10s', 10_000],
    [' 1h ', 3_600_000],
    ['1.5m', 90_000],
    ['30d', 2_592_000_000],
    ['1 day', 86_400_000],
  ])('reads %p as %p ms', (duration, expected) => {
    expect(parseDurationMs(duration)).toBe(expected);
  });

  it.each<[unknown]>([
    [-1],
    ['-1s'],
    [Number.NaN],
    [Number.POSITIVE_INFINITY],
    [''],
    ['   '],
    ['soon'],
    ['10 parsecs'],
    ['1'.repeat(101)],
    [null],
    [undefined],
    [true],
    [{}],
    [['10s']],
    [10n],
  ])('refuses %p', (duration) => {
    expect(parseDurationMs(duration)).toBeUndefined();
  });
});

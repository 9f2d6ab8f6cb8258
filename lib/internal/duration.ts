import ms from 'ms';

/** A length of time: milliseconds as a number, or a string such as `250`, `'10s'`, `'1h'`, `'30d'`. */
export type Duration = number | string;

/** The milliseconds of `duration`, or `undefined` when it is not a finite, non-negative length of time. */
export function parseDurationMs(duration: unknown): number | undefined {
  const milliseconds = typeof duration === 'string' ? parseText(duration.trim()) : duration;
  return typeof milliseconds === 'number' && Number.isFinite(milliseconds) && milliseconds >= 0
    ? milliseconds
    : undefined;
}

function parseText(text: string): number | undefined {
  // `ms` throws on an empty or an over-long text and returns undefined for what it cannot read.
  return text === '' || text.length > 100 ? undefined : ms(text as ms.StringValue);
}

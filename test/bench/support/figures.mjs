/** The middle one of the numbers. */
export function median(numbers) {
  return quantile(numbers, 0.5);
}

/** What that share of the numbers is not above. */
export function quantile(numbers, share) {
  const sorted = Float64Array.from(numbers).sort();
  const position = (sorted.length - 1) * share;
  const low = Math.floor(position);
  const rest = position - low;
  return rest === 0 ? sorted[low] : sorted[low] * (1 - rest) + sorted[low + 1] * rest;
}

/** Half of the range of the middle half of the numbers, as a share of their median. */
export function spreadOf(numbers) {
  return (quantile(numbers, 0.75) - quantile(numbers, 0.25)) / 2 / median(numbers);
}

/** The median of `ours` over `theirs`, round by round. */
export function gainOver(ours, theirs) {
  return median(ours.map((value, round) => value / theirs[round]));
}

export function sum(numbers) {
  let total = 0;
  for (const number of numbers) total += number;
  return total;
}

/** A small generator of random numbers, the same ones in each run. */
export function randomFrom(seed) {
  let state = seed;
  return () => {
    // mulberry32
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** The items in random order, in place. */
export function shuffle(items, random) {
  for (let index = items.length - 1; index > 0; index -= 1) {
    const other = Math.floor(random() * (index + 1));
    [items[index], items[other]] = [items[other], items[index]];
  }
  return items;
}

import { setTimeout as delay } from 'node:timers/promises';

/** Stands for whatever a handler has to ask before it knows what to write: a database, another service. */
export async function priceOf(item: string): Promise<number> {
  await delay(2);
  return item.length;
}

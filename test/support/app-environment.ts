/** Everything the library reads from the environment. */
const KEYS = [
  'STATE_MANAGER_MODE',
  'STATE_DISK_PATH',
  'STATE_TOKEN_EXPIRATION',
  'STATE_LOCK_EXPIRATION',
  'STATE_LOCK_WARNING_THRESHOLD',
  'STATE_REDIS_URL',
  'REDIS_URL',
] as const;

function set(key: string, value: string | undefined): void {
  if (value === undefined) delete process.env[key];
  else process.env[key] = value;
}

/** Runs `use` with these variables set and all others that the library reads unset, and restores them all. */
export async function withEnvironment<T>(
  variables: Partial<Record<(typeof KEYS)[number], string>>,
  use: () => Promise<T>,
): Promise<T> {
  const saved = new Map(KEYS.map((key) => [key, process.env[key]]));
  for (const key of KEYS) set(key, variables[key]);
  try {
    return await use();
  } finally {
    for (const [key, value] of saved) set(key, value);
  }
}

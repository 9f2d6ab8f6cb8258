import { createHash } from 'node:crypto';
import { LEASING } from './redis-keys.js';

/** One Lua script: everything that compares and acts is one. */
export interface RedisScript {
  readonly name: string;
  readonly lua: string;
  readonly sha: string;
  /** How many keys it takes. */
  readonly keys: number;
  /** How many arguments it takes, before the pairs of fields and values that some take on top. */
  readonly args: number;
  /**
   * It answers 0 when the lock is lost, also when an earlier run has given it up: an answer of 0 to a call that may have
   * been sent twice says nothing.
   */
  readonly isFinal: boolean;
}

export function script(name: string, keys: number, args: number, lua: string, isFinal = false): RedisScript {
  return { name, keys, args, isFinal, lua, sha: createHash('sha1').update(lua).digest('hex') };
}

// The field of the hash that names the last commit, so that a script that is sent again, because its answer was lost
// with the connection, can tell that it was here before. State names start with a word character or one of .:-
export const RECEIPT = '#commit';

/**
 * The part of an owner id that stays the same when the lock is handed over: `<instance>:<number>`, and behind a slash
 * the one it was handed over by. So each grant has an id of its own: a process that stood still, and reads of a lock it
 * was handed long ago, cannot take it for the one it was handed since.
 */
export const BASE = `local function base(owner) return string.match(owner, '^[^/]+') end
`;

/**
 * Gives up the lock, which is held: the longest waiting process becomes its owner at once and is sent the states.
 * Without anybody who waits the lock is deleted. Expects {@link BASE} and the locals `lock`, `wait`, `states`, `watchers`,
 * `prefix`, `leaseMs`, `statesMs` and `countsReceivers`.
 *
 * A message reaches nobody when its process has died: the next one's turn. On a cluster PUBLISH counts the receivers of
 * one node only and says nothing; there the short lease is what a dead process costs.
 */
export const HAND_OVER = `
local waiter = redis.call('ZPOPMIN', wait)[1]
while waiter do
  local fields = redis.call('HGETALL', states)
  local lengths = {}
  for index, field in ipairs(fields) do lengths[index] = #field end
  local grant = waiter .. '/' .. base(ARGV[1])
  redis.call('SET', lock, grant, 'PX', leaseMs)
  if #fields > 0 then redis.call('PEXPIRE', states, statesMs) end
  local watched = redis.call('EXISTS', watchers)
  local head = 'handed ' .. string.match(lock, '{(%x+)}:lock$') .. ' ' .. grant .. ' ' .. watched .. ' ' .. table.concat(lengths, ' ')
  local message = head .. '\\n' .. table.concat(fields)
  local reached = redis.call('PUBLISH', prefix .. string.match(waiter, '^[^:]+'), message)
  if reached > 0 or not countsReceivers then return 3 end
  waiter = redis.call('ZPOPMIN', wait)[1]
end
redis.call('DEL', lock)
return 1
`;

/** Tells the processes that watch what a commit has written: its steps, or where they are empty what stands in ARGV. */
export const TELL = `local function tell(watching, lock, before, commit, deletes, steps, prefix, first, last)
  if #watching == 0 then return end
  local head = {'changed', string.match(lock, '{(%x+)}:lock$'), before, commit, deletes}
  local body = steps
  if body == '' then
    for index = first, last do head[#head + 1] = #ARGV[index] end
    body = table.concat(ARGV, '', first, last)
  end
  local message = table.concat(head, ' ') .. '\\n' .. body
  for _, instance in ipairs(watching) do redis.call('PUBLISH', prefix .. instance, message) end
end`;

/**
 * Writes what a commit brings and tells the processes that watch, or returns because the lock is not held. `FIXED` is the
 * number of fixed arguments, `STEPS` that of the one that says what watchers are told, and `PREFIX` says how the names of
 * the channels begin. Makes the local `isAlone`: nobody waits, and nobody watches, which costs one look for both.
 */
const WRITE = `
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  if ARGV[2] ~= '' and redis.call('HGET', KEYS[3], '${RECEIPT}') == ARGV[2] then return 2 end
  return 0
end
local isAlone = redis.call('EXISTS', KEYS[2], KEYS[4]) == 0
if ARGV[3] == '1' or #ARGV > FIXED then
  local watching = isAlone and {} or redis.call('ZRANGE', KEYS[4], 0, -1)
  local before = #watching > 0 and redis.call('HGET', KEYS[3], '${RECEIPT}') or ''
  if ARGV[3] == '1' then redis.call('DEL', KEYS[3]) end
  if #ARGV > FIXED then redis.call('HSET', KEYS[3], '${RECEIPT}', ARGV[2], unpack(ARGV, FIXED + 1)) end
  if #watching > 0 then
    ${TELL}
    tell(watching, KEYS[1], before, ARGV[2], ARGV[3], ARGV[STEPS], PREFIX, FIXED + 1, #ARGV)
  end
end
`;

function write(fixed: number, steps: number, prefix: string): string {
  return WRITE.replaceAll('FIXED', String(fixed))
    .replaceAll('STEPS', String(steps))
    .replaceAll('PREFIX', () => prefix);
}

const WRITE_ARGS = `
-- ARGV[1] owner
-- ARGV[2] commit id, unique for what is written; empty when nothing is
-- ARGV[3] 1: delete all states first`;

/** How long a wait list outlives the last look of whoever stands on it, in milliseconds. */
const WAIT_LIST_MS = 10_000;

/** Takes the lock and loads the states, in one round trip. */
export const ACQUIRE = script(
  'acquire',
  4,
  5,
  `-- Takes the lock of an ident if it is free, or has been handed to the caller, and loads its states.
-- Otherwise puts the caller on the wait list, once, and tells the process that holds the lock.
-- KEYS[1] lock  KEYS[2] wait list  KEYS[3] states  KEYS[4] watchers
-- ARGV[1] owner, <instance>:<number>, without a slash
-- ARGV[2] ms the lock lives
-- ARGV[3] ms the states live at least
-- ARGV[4] how the caller waits: no (not at all), first (asks for the first time), again
-- ARGV[5] prefix of the channels
-- Returns the fields and values of the states, 1 if somebody watches the ident, and the owner that the lock has when it is
-- the caller's, else the ms it still lives for its owner.
local owner, mode = ARGV[1], ARGV[4]
local holder = not redis.call('SET', KEYS[1], owner, 'NX', 'PX', ARGV[2]) and redis.call('GET', KEYS[1])
if not holder or string.match(holder, '^[^/]+') == owner then
  if holder then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
  if mode == 'again' then redis.call('ZREM', KEYS[2], owner) end
  local fields = redis.call('HGETALL', KEYS[3])
  local count = #fields
  if count > 0 then redis.call('PEXPIRE', KEYS[3], ARGV[3]) end
  fields[count + 1] = redis.call('EXISTS', KEYS[4])
  fields[count + 2] = holder or owner
  return fields
end
if mode ~= 'no' then
  if not redis.call('ZSCORE', KEYS[2], owner) then
    local last = redis.call('ZREVRANGE', KEYS[2], 0, 0, 'WITHSCORES')[2]
    redis.call('ZADD', KEYS[2], (last or 0) + 1, owner)
  end
  redis.call('PEXPIRE', KEYS[2], ${WAIT_LIST_MS})
  redis.call('PUBLISH', ARGV[5] .. string.match(holder, '^[^:]+'), 'wanted ' .. string.match(KEYS[1], '{(%x+)}:lock$') .. ' ' .. holder)
end
return redis.call('PTTL', KEYS[1])
`,
);

/** Commits and keeps the lock. */
export const COMMIT = script(
  'commit',
  4,
  7,
  `-- Writes states and keeps the lock, if it is still the caller's.
-- KEYS[1] lock  KEYS[2] wait list  KEYS[3] states  KEYS[4] watchers${WRITE_ARGS}
-- ARGV[4] ms the lock lives
-- ARGV[5] ms the states live at least
-- ARGV[6] what watchers are told; empty: the fields and values
-- ARGV[7] prefix of the channels
-- ARGV[8], ARGV[9] … field and value of each state to write
-- Returns 0: the lock is lost and nothing is written; 1: done; 2: done by an earlier call; 3: done, and somebody waits.
${write(7, 6, 'ARGV[7]')}
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('PEXPIRE', KEYS[3], ARGV[5])
return not isAlone and redis.call('EXISTS', KEYS[2]) == 1 and 3 or 1
`,
  true,
);

/** What stands in one argument, which is looked into only where the lock is handed over. */
const HAND_OVER_WORDS = `string.match(ARGV[5], '^(%d+) (%d+) (%d) (.*)$')`;

/** `keys` are those beside the usual ones, and `restartWindow` says how long the states live from now on. */
function finish(name: string, keys: readonly string[], restartWindow: string): RedisScript {
  const more = keys.map((key, index) => `  KEYS[${5 + index}] ${key}`).join('');
  return script(
    name,
    4 + keys.length,
    6,
    `-- Writes states, restarts their window and gives up the lock, if it is still the caller's.
-- KEYS[1] lock  KEYS[2] wait list  KEYS[3] states  KEYS[4] watchers${more}${WRITE_ARGS}
-- ARGV[4] ms the states live from now on
-- ARGV[5] four words: ms the lock lives that is handed over, until its new owner has renewed it; ms the states live at
-- least when it is; 1: PUBLISH counts all receivers; prefix of the channels
-- ARGV[6] what watchers are told; empty: the fields and values
-- ARGV[7], ARGV[8] … field and value of each state to write
-- Returns 0: the lock is lost and nothing is written; 1: done; 2: done by an earlier call; 3: done, and somebody else has
-- the lock now.
${write(6, 6, `select(4, ${HAND_OVER_WORDS})`)}
${restartWindow}
if isAlone then
  redis.call('DEL', KEYS[1])
  return 1
end
${BASE}local lock, wait, states, watchers = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local leaseMs, statesMs, counts, prefix = ${HAND_OVER_WORDS}
local countsReceivers = counts == '1'
${HAND_OVER}`,
    true,
  );
}

/** Commits and gives up the lock, in one round trip. */
export const FINISH = finish('finish', [], `redis.call('PEXPIRE', KEYS[3], ARGV[4])`);

/**
 * The same for a lock that was kept between turns: how long ago its process has used the states is in ARGV[4], and those
 * who have read them elsewhere meanwhile have said so at KEYS[5].
 */
export const FINISH_LEASE = finish(
  'finish-lease',
  ['mark of who has read'],
  `redis.call('PEXPIRE', KEYS[3], math.max(ARGV[4], redis.call('PTTL', KEYS[5])))
redis.call('DEL', KEYS[5])`,
);

/** Prolongs a lock that is held. */
export const RENEW = script(
  'renew',
  2,
  3,
  `-- Prolongs the lock and the life of its states, if it is still the caller's.
-- KEYS[1] lock  KEYS[2] states
-- ARGV[1] owner
-- ARGV[2] ms the lock lives
-- ARGV[3] ms the states live at least
-- Returns 1: done; 0: the lock is lost.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
return 1
`,
);

/** Stops waiting, and passes on what was handed over meanwhile. */
export const LEAVE = script(
  'leave',
  4,
  5,
  `-- Takes the caller off the wait list; a lock that has been handed to it goes on to the next one.
-- KEYS[1] lock  KEYS[2] wait list  KEYS[3] states  KEYS[4] watchers
-- ARGV[1] owner
-- ARGV[2] prefix of the channels
-- ARGV[3] ms the lock lives that is handed over, until its new owner has renewed it
-- ARGV[4] ms the states live at least when it is
-- ARGV[5] 1: PUBLISH counts all receivers
-- Returns 1: the lock was the caller's and is given up; 3: it is somebody else's now; 0: it was not the caller's.
${BASE}redis.call('ZREM', KEYS[2], base(ARGV[1]))
local holder = redis.call('GET', KEYS[1])
if not holder or base(holder) ~= base(ARGV[1]) then return 0 end
local lock, wait, states, watchers = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local prefix, leaseMs, statesMs, countsReceivers = ARGV[2], ARGV[3], ARGV[4], ARGV[5] == '1'
${HAND_OVER}`,
);

/** Reads one state without the lock. */
export const READ = script(
  'read',
  3,
  2,
  `-- Reads one state and restarts its window, unless a turn is open: that one keeps it alive. Where the lock may be kept
-- between turns a mark stands for the window until the lock is given up.
-- KEYS[1] lock  KEYS[2] states  KEYS[3] mark of who has read
-- ARGV[1] field of the state
-- ARGV[2] ms the states live from now on
-- Returns the record, or nil.
local record = redis.call('HGET', KEYS[2], ARGV[1])
if not record then return record end
local holder = redis.call('GET', KEYS[1])
if not holder then
  redis.call('PEXPIRE', KEYS[2], ARGV[2])
elseif string.sub(holder, 1, 1) == '${LEASING}' then
  redis.call('SET', KEYS[3], '', 'PX', ARGV[2])
end
return record
`,
);

/** Looks at what is stored, and has this process told of each commit for a while. */
export const WATCH = script(
  'watch',
  3,
  4,
  `-- Puts the caller among those who are told of commits, or keeps it there, and returns what is stored if the caller does
-- not know it. Tells the process that holds the lock when the caller is new. Leaves the window of the states alone.
-- KEYS[1] lock  KEYS[2] states  KEYS[3] watchers
-- ARGV[1] instance of the caller
-- ARGV[2] ms for which it is told at least
-- ARGV[3] the last commit that the caller knows; '?': none
-- ARGV[4] prefix of the channels
-- Returns the last commit, the ms that the states live (below 0: there are none), and, unless the caller knows that commit,
-- their fields and values.
${BASE}local last = redis.call('ZREVRANGE', KEYS[3], 0, 0, 'WITHSCORES')[2] or 0
if redis.call('ZADD', KEYS[3], last + 1, ARGV[1]) == 1 then
  local holder = redis.call('GET', KEYS[1])
  if holder then
    redis.call('PUBLISH', ARGV[4] .. string.match(holder, '^[^:]+'), 'watched ' .. string.match(KEYS[1], '{(%x+)}:lock$') .. ' ' .. holder)
  end
end
-- Whoever has not called while each of the others has called so often is gone.
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', last - 100 * redis.call('ZCARD', KEYS[3]))
-- Others may look less often, and have asked for longer.
if redis.call('PTTL', KEYS[3]) < tonumber(ARGV[2]) then redis.call('PEXPIRE', KEYS[3], ARGV[2]) end
local commit = redis.call('HGET', KEYS[2], '${RECEIPT}') or ''
local fields = commit == ARGV[3] and {} or redis.call('HGETALL', KEYS[2])
table.insert(fields, 1, redis.call('PTTL', KEYS[2]))
table.insert(fields, 1, commit)
return fields
`,
);

/** Ends what {@link WATCH} has begun. */
export const UNWATCH = script(
  'unwatch',
  1,
  1,
  `-- Takes the caller from among those who are told of commits.
-- KEYS[1] watchers
-- ARGV[1] instance of the caller
-- Returns 1: it was there; 0: it was not.
return redis.call('ZREM', KEYS[1], ARGV[1])
`,
);

/** Notices that states have expired, once among all processes that look. */
export const NOTICE = script(
  'notice',
  2,
  1,
  `-- Looks whether the states of an ident are gone, and whether somebody has noticed before.
-- KEYS[1] states  KEYS[2] mark of who has noticed
-- ARGV[1] ms the mark lives: less than the window, so that it is gone when states made anew can have expired
-- Returns the ms the states still live, -1 when they have no end, -2 when they are gone and the caller is the first to
-- notice, -3 when another one was.
local left = redis.call('PTTL', KEYS[1])
if left ~= -2 then return left end
return redis.call('SET', KEYS[2], '', 'NX', 'PX', ARGV[1]) and -2 or -3
`,
);

/** How large the states of an ident are. */
export const SIZES = script(
  'sizes',
  1,
  0,
  `-- Looks at the fields of an ident, not at what is in them, and restarts no window.
-- KEYS[1] states
-- Returns the names of the fields and their sizes in bytes, in turn; nothing for a key of somebody else.
if redis.call('TYPE', KEYS[1]).ok ~= 'hash' then return {} end
local sizes = {}
for _, name in ipairs(redis.call('HKEYS', KEYS[1])) do
  sizes[#sizes + 1] = name
  sizes[#sizes + 1] = redis.call('HSTRLEN', KEYS[1], name)
end
return sizes
`,
);

/** Every script there is. */
export const REDIS_SCRIPTS: readonly RedisScript[] = [
  ACQUIRE,
  COMMIT,
  FINISH,
  FINISH_LEASE,
  RENEW,
  LEAVE,
  READ,
  WATCH,
  UNWATCH,
  NOTICE,
  SIZES,
];

import { BASE, HAND_OVER, RECEIPT, TELL, script, type RedisScript } from './redis-scripts.js';

/** How many keys each ident has. */
const KEYS_PER_IDENT = 4;

/** Commits what one turn has changed over several idents. `keys` is that of one ident: see {@link jointScript}. */
export const JOINT = script(
  'joint',
  KEYS_PER_IDENT,
  7,
  `-- Writes states of several idents if all of their locks are still the caller's, and keeps or gives up each of the locks.
-- KEYS[1] lock  KEYS[2] wait list  KEYS[3] states  KEYS[4] watchers of the first ident, and so on for each further one
-- ARGV[1] commit id, unique for what is written; empty when no state is
-- ARGV[2] ms a lock lives that is kept
-- ARGV[3] ms its states live at least
-- ARGV[4] prefix of the channels
-- ARGV[5] ms the lock lives that is handed over, until its new owner has renewed it
-- ARGV[6] ms its states live at least
-- ARGV[7] 1: PUBLISH counts all receivers
-- ARGV[8] … for each ident: owner; 1 to delete all states first; ms the states live from now on, or empty to keep the
-- lock; what watchers are told, empty: the fields and values; number of states to write; field and value of each
-- Returns 0: a lock is lost and nothing is written; else for each ident 1: done; 2: done by an earlier call; 3: done, and
-- somebody waits, or has the lock now.
${BASE}${TELL}
local prefix, leaseMs, statesMs, countsReceivers = ARGV[4], ARGV[5], ARGV[6], ARGV[7] == '1'
local function giveUp(owner, lock, wait, states, watchers)
${HAND_OVER.replace('ARGV[1]', 'owner')}
end
local parts, at, areHeld, isDone, done = {}, 8, true, false, {}
for key = 1, #KEYS, ${KEYS_PER_IDENT} do
  local part = { lock = KEYS[key], wait = KEYS[key + 1], states = KEYS[key + 2], watchers = KEYS[key + 3] }
  part.owner, part.deletes, part.windowMs = ARGV[at], ARGV[at + 1] == '1', ARGV[at + 2]
  part.steps, part.first, part.last = ARGV[at + 3], at + 5, at + 4 + 2 * ARGV[at + 4]
  at = part.last + 1
  if redis.call('GET', part.lock) ~= part.owner then areHeld = false end
  parts[#parts + 1] = part
  done[#done + 1] = 2
end
if not areHeld then
  if ARGV[1] == '' then return 0 end
  for _, part in ipairs(parts) do
    if part.last > part.first and redis.call('HGET', part.states, '${RECEIPT}') == ARGV[1] then isDone = true end
  end
  return isDone and done or 0
end
for index, part in ipairs(parts) do
  if part.deletes or part.last > part.first then
    local watching = redis.call('ZRANGE', part.watchers, 0, -1)
    local before = #watching > 0 and redis.call('HGET', part.states, '${RECEIPT}') or ''
    if part.deletes then redis.call('DEL', part.states) end
    local commit = ''
    if part.last > part.first then
      commit = ARGV[1]
      redis.call('HSET', part.states, '${RECEIPT}', commit, unpack(ARGV, part.first, part.last))
    end
    tell(watching, part.lock, before, commit, part.deletes and 1 or 0, part.steps, prefix, part.first, part.last)
  end
  if part.windowMs == '' then
    redis.call('PEXPIRE', part.lock, ARGV[2])
    redis.call('PEXPIRE', part.states, ARGV[3])
    done[index] = redis.call('EXISTS', part.wait) == 1 and 3 or 1
  else
    redis.call('PEXPIRE', part.states, part.windowMs)
    done[index] = giveUp(part.owner, part.lock, part.wait, part.states, part.watchers)
  end
end
return done
`,
  true,
);

/** The script for as many idents. */
export function jointScript(idents: number): RedisScript {
  return { ...JOINT, keys: idents * KEYS_PER_IDENT };
}

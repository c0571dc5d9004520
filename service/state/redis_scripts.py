"""What Redis is asked to do, in Lua: each script is one round trip, and nothing comes between its steps.

Every user has three keys: a hash of events by id; a stamp that no two states of a user share, by which a cache knows
whether it is still right; and a hash of what others did to the user last, by relation and user. An experiment has two:
marks of what was counted last, by number, and a hash of counts.
"""

from collections.abc import Sequence

Word = str | bytes | int
Command = Sequence[Word]


def script(body: str, keys: Sequence[str | bytes] = (), arguments: Sequence[Word] = ()) -> Command:
    """The command that runs a script."""
    return ("EVAL", body, len(keys), *keys, *arguments)


# Arguments: the stamp and the number of events of what the asker keeps already, how many events may come, and a new
# stamp, for where there is none. Replies: the stamp, the number, and a JSON list of the events, which is empty where
# the asker has them already or they are more than may come.
READ = """
local stamp = redis.call('GET', KEYS[2]) or ''
local size = redis.call('HLEN', KEYS[1])
if stamp == '' and ARGV[4] ~= '' and size > 0 and not redis.pcall('SET', KEYS[2], ARGV[4]).err then stamp = ARGV[4] end
local known = stamp ~= '' and stamp == ARGV[1] and size == tonumber(ARGV[2])
if known or size == 0 or size > tonumber(ARGV[3]) then return {stamp, size, '[]'} end
return {stamp, size, '[' .. table.concat(redis.call('HVALS', KEYS[1]), ',') .. ']'}
"""

# Arguments: a new stamp, then of each event its id, the size at which there is no room for it, and its JSON.
APPEND = """
local size = redis.call('HLEN', KEYS[1])
local before = size
local outcomes = {}
for i = 2, #ARGV, 3 do
    if redis.call('HEXISTS', KEYS[1], ARGV[i]) == 1 then
        table.insert(outcomes, 'duplicate')
    elseif size >= tonumber(ARGV[i + 1]) then
        table.insert(outcomes, 'full')
    else
        if size == before then redis.call('SET', KEYS[2], ARGV[1]) end
        redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 2])
        size = size + 1
        table.insert(outcomes, 'stored')
    end
end
return outcomes
"""

# What others did to one user. Keys: where that is kept; then, but in a cluster, the events of each who did it: of whom
# they are gone by now was erased, and is not written down again. Arguments: how many may be kept; then of each the
# relation and user, [at, received, id, action, target], and the id. Of one user under one relation the latest stays,
# whatever came first.
TELL = """
for i = 2, #ARGV, 3 do
    local known = redis.call('HGET', KEYS[1], ARGV[i])
    local own = KEYS[(i + 4) / 3]
    local wanted = not own or redis.call('HEXISTS', own, ARGV[i + 2]) == 1
    if wanted and known then
        local a, b = cjson.decode(known), cjson.decode(ARGV[i + 1])
        wanted = not (a[1] > b[1] or (a[1] == b[1] and (a[2] > b[2] or (a[2] == b[2] and a[3] > b[3]))))
    elseif wanted and redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[1]) then
        redis.call('HDEL', KEYS[1], redis.call('HKEYS', KEYS[1])[1])
    end
    if wanted then redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
end
return 0
"""

# Takes back what TELL wrote down. Arguments: relation and user, and the id of the event, and so on. What the same user
# has done since stays.
TAKE_BACK = """
for i = 1, #ARGV, 2 do
    local known = redis.call('HGET', KEYS[1], ARGV[i])
    if known and cjson.decode(known)[3] == ARGV[i + 1] then redis.call('HDEL', KEYS[1], ARGV[i]) end
end
return 0
"""

# Arguments: ids. Replies: 1 for each event that the user has.
HAS = """
local found = {}
for i = 1, #ARGV do found[i] = redis.call('HEXISTS', KEYS[1], ARGV[i]) end
return found
"""

FORGET = """
local size = redis.call('HLEN', KEYS[1])
redis.call('DEL', unpack(KEYS))
return size
"""

# What others did to a user: relation and user, [at, received, id, action, target], and so on. Or the counts of an
# experiment: kind and arm, number, and so on.
READ_HASH = """
return redis.call('HGETALL', KEYS[1])
"""

# Keys: what others did to several users. Arguments: 'one' or 'all'; the one who is forgotten, which is what comes after
# the first NUL of a field; and before when it was received, or inf.
FORGET_FOLLOWER = """
local removed = 0
for _, key in ipairs(KEYS) do
    for _, field in ipairs(redis.call('HKEYS', key)) do
        local nul = string.find(field, '\\0', 1, true)
        local wanted = ARGV[1] == 'all' or (nul and string.sub(field, nul + 1) == ARGV[2])
        if wanted and ARGV[3] ~= 'inf' then
            wanted = cjson.decode(redis.call('HGET', key, field))[2] < tonumber(ARGV[3])
        end
        if wanted then removed = removed + redis.call('HDEL', key, field) end
    end
end
return removed
"""

# Keys: the marks and the counts of an experiment. Arguments: how many marks are kept; then of each thing its mark, and
# the arm and kind under which it counts. Replies: 1 for what was new, 0 for the rest.
COUNT = """
local new = {}
for i = 2, #ARGV, 2 do
    local number = redis.call('HINCRBY', KEYS[2], '', 1)
    local is_new = redis.call('ZADD', KEYS[1], 'NX', number, ARGV[i])
    if is_new == 1 then redis.call('HINCRBY', KEYS[2], ARGV[i + 1], 1) end
    table.insert(new, is_new)
end
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -1 - tonumber(ARGV[1]))
return new
"""

# Writes, and leaves nothing.
TRY_OUT = """
redis.call('SET', KEYS[1], '')
return redis.call('DEL', KEYS[1])
"""

# Arguments: a cursor, a pattern, how many keys to look at.
SCAN = """
return redis.call('SCAN', ARGV[1], 'MATCH', ARGV[2], 'COUNT', ARGV[3])
"""

# The stamp goes first, and is not set anew: a Redis without room lets go of keys and takes none.
FORGET_FOUND = """
local function forget(events, stamp, fields)
    for j = 1, #fields, 2 do
        if string.find(fields[j + 1], ARGV[1], 1, true) then
            redis.call('DEL', stamp)
            redis.call('HDEL', events, fields[j])
        end
    end
end
"""

# Keys: both of several users. Arguments: the part of an event's JSON that names its target; and how many events of one
# user are looked through at once. Replies: the places of those who have more, which are left as they are.
FORGET_MENTIONS = (
    FORGET_FOUND
    + """
local large = {}
for i = 1, #KEYS, 2 do
    if redis.call('HLEN', KEYS[i]) > tonumber(ARGV[2]) then
        table.insert(large, (i + 1) / 2)
    else
        forget(KEYS[i], KEYS[i + 1], redis.call('HGETALL', KEYS[i]))
    end
end
return large
"""
)

# Keys: both of one user. Arguments: the same part; a cursor; and about how many events are looked through. Replies: the
# next cursor.
FORGET_SOME_MENTIONS = (
    FORGET_FOUND
    + """
local found = redis.call('HSCAN', KEYS[1], ARGV[2], 'COUNT', ARGV[3])
forget(KEYS[1], KEYS[2], found[2])
return found[1]
"""
)

-- What the scripts share: it stands before each of them. A shard's tag is the beginning of all its keys (layout.py).
-- Only what is compared by == or as numbers is compared here: Lua orders strings by the server's locale, not by bytes.

local EPOCH = 62135596800 -- seconds from the year 1 to 1970

-- The clock as 18 digits. Seconds and microseconds apart: a double can't hold their sum for far years.
local function clock(offset_seconds, offset_micros)
    local time = redis.call('TIME')
    local seconds = tonumber(time[1]) + tonumber(offset_seconds) + EPOCH
    local micros = tonumber(time[2]) + tonumber(offset_micros)
    if micros >= 1000000 then
        seconds, micros = seconds + 1, micros - 1000000
    end
    return string.format('%012.0f%06.0f', seconds, micros)
end

local function is_after(one, other)
    local one_seconds, other_seconds = tonumber(one:sub(1, 12)), tonumber(other:sub(1, 12))
    if one_seconds ~= other_seconds then
        return one_seconds > other_seconds
    end
    return tonumber(one:sub(13)) > tonumber(other:sub(13))
end

-- End the script before it has written anything where its slot is on the move to another node of a cluster. There a key
-- that is missing ends a script wherever it asks for it, and what it has written by then stays: so ask for one that is
-- never there.
local function stand_still(tag)
    redis.call('EXISTS', tag .. 'none')
end

-- The attributes of a record; none where they are damaged: what is written last must not fail for what stood there.
local function attributes_of(text)
    if not text or text == '{}' then
        return {}
    end
    local sound, attributes = pcall(cjson.decode, text)
    return sound and type(attributes) == 'table' and attributes or {}
end

-- The canonical text of an attribute; nil for anything else.
local function value_of(attributes, name)
    local value = attributes[name]
    return type(value) == 'string' and value or nil
end

-- Whether a command was refused since its key holds another kind of value. Another refusal ends the script.
local function is_other(reply)
    if type(reply) ~= 'table' or not reply.err then
        return false
    end
    if reply.err:find('WRONGTYPE', 1, true) then
        return true
    end
    error(reply.err, 0)
end

-- The fields of a record, and whether what stands there is no record: no hash, or one without its revision.
local function fields_of(record, ...)
    local fields = redis.pcall('HMGET', record, ...)
    if is_other(fields) then
        return {}, true
    end
    return fields, not fields[1] and redis.call('EXISTS', record) == 1
end

-- The highest revision: above it a double, in which Lua counts, can't tell two of them apart.
local LAST_REVISION = 9007199254740991

-- Whether a text is a revision that a put can have given.
local function is_revision(text)
    return text:find('^[1-9]%d*$') and #text <= 16 and tonumber(text) <= LAST_REVISION
end

-- Move a member of a sorted set, or one that appears or goes (false).
local function move(index, old, new)
    if old == new then
        return
    end
    if old then
        redis.call('ZREM', index, old)
    end
    if new then
        redis.call('ZADD', index, 0, new)
    end
end

-- Bring the indexes of the declared attributes from one state of a record to another; a state is its attributes as
-- text and its due time, each false where there is none.
local function reindex(tag, key, old_text, old_due, new_text, new_due)
    local declared = redis.call('HKEYS', tag .. 'declared')
    if #declared == 0 then
        return
    end
    local old = attributes_of(old_text)
    local new = new_text == old_text and old or attributes_of(new_text)
    for _, name in ipairs(declared) do
        local was, is = value_of(old, name), value_of(new, name)
        if was ~= is then
            if was then
                redis.call('ZREM', tag .. 'key:' .. name .. '=' .. was, key)
            end
            if is then
                redis.call('ZADD', tag .. 'key:' .. name .. '=' .. is, 0, key)
            end
        end
        local was_due, is_due = was and old_due, is and new_due
        if was_due and (was ~= is or was_due ~= is_due) then
            redis.call('ZREM', tag .. 'due:' .. name .. '=' .. was, was_due .. key)
        end
        if is_due and (was ~= is or was_due ~= is_due) then
            redis.call('ZADD', tag .. 'due:' .. name .. '=' .. is, 0, is_due .. key)
        end
    end
end

-- Who may write need not be allowed to publish, and the write is done already.
local function publish(channel, key)
    if channel ~= '' then
        redis.pcall('PUBLISH', channel, key)
    end
end

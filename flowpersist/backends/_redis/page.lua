-- Find records of one shard in an order, from an index. Writes nothing.
-- KEYS: any key of the tag. ARGV: tag, order, 'asc' or 'desc', the bounds where to begin and where to end, how many records,
--       how many index entries to look at, the clock's offset (two), of how many records the bodies are wanted, the largest
--       body that is given, how much of bodies in all, the number of conditions, then of each: the name of
--       the attribute, its value, and both as they stand in the text of all attributes.
-- Gives the clock, the last index entry that was looked at ('' where nothing follows), and the records: each one's entry and
-- its fields, none of them where it is damaged so that they can't be told, or are larger than a put makes them, and its body
-- if it is given: large ones pass more quickly without a script.

local tag, order, direction, from, to = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local wanted, budget = tonumber(ARGV[6]), tonumber(ARGV[7])
local now = clock(ARGV[8], ARGV[9])
local with_bodies, largest, room = tonumber(ARGV[10]), tonumber(ARGV[11]), tonumber(ARGV[12])
local conditions = tonumber(ARGV[13])
local command = direction == 'asc' and 'ZRANGEBYLEX' or 'ZREVRANGEBYLEX'

-- Of the indexes that answer one of the conditions, the one with the fewest entries.
local index, answered = tag .. order, false
if conditions > 0 and (order == 'key' or order == 'due') then
    local fewest = false
    for number = 0, conditions - 1 do
        local name, value = ARGV[14 + 3 * number], ARGV[15 + 3 * number]
        if redis.call('HGET', tag .. 'declared', name) == 'ready' then
            local candidate = tag .. order .. ':' .. name .. '=' .. value
            local entries = redis.call('ZCARD', candidate)
            if not fewest or entries < fewest then
                fewest, index, answered = entries, candidate, number
            end
        end
    end
end

local others = {}
for number = 0, conditions - 1 do
    if number ~= answered then
        others[#others + 1] = ARGV[16 + 3 * number]
    end
end

local function holds(record)
    if #others == 0 then
        return true
    end
    local attributes = redis.pcall('HGET', record, 'a')
    if is_other(attributes) then
        -- It is no hash: to be reported.
        return true
    end
    for _, entry in ipairs(others) do
        if not attributes or not attributes:find(entry, 1, true) then
            return false
        end
    end
    return true
end

local function is_large(fields)
    return #(fields[2] or '') > 64 or #(fields[3] or '') > 2 * 393728 or #(fields[4] or '') > 262144
end

-- A record's body, if it is wanted and small enough; false otherwise.
local function body_of(place, key, size)
    size = tonumber(size or '')
    if place > with_bodies or not size or size > largest or size > room then
        return false
    end
    local body = redis.pcall('GET', tag .. 'b:' .. key)
    if type(body) ~= 'string' then
        return false
    end
    room = room - #body
    return body
end

local records, seen, last = {}, 0, ''
local stride = #others > 0 and math.max(wanted, 100) or wanted
while #records < wanted and seen < budget do
    local step = math.min(stride, budget - seen)
    local entries = redis.call(command, index, from, to, 'LIMIT', 0, step)
    for _, entry in ipairs(entries) do
        seen, last = seen + 1, entry
        local key = order == 'key' and entry or entry:sub(19)
        local record = tag .. 'r:' .. key
        if holds(record) then
            local fields, damaged = fields_of(record, 'v', 'w', 'a', 'h', 's', 'c', 'u', 'd')
            -- An entry whose record is gone was taken away by other means than ours.
            if fields[1] or damaged then
                local told = not damaged and not is_large(fields) and fields
                records[#records + 1] = {entry, told, told and body_of(#records + 1, key, fields[5])}
                if #records == wanted then
                    break
                end
            end
        end
    end
    if #entries < step then
        if #records < wanted then
            last = ''
        end
        break
    end
    from = '(' .. last
end
return {now, last, records}

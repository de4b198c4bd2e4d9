-- Declare attributes of a shard as indexed. From now on every put writes their index entries; queries use them once
-- they are ready, which they are at once where no record is there yet.
-- KEYS: any key of the tag. ARGV: tag, names. Gives the names that are not ready.

local tag = ARGV[1]
stand_still(tag)
local empty = redis.call('EXISTS', tag .. 'key') == 0
local building = {}
for place = 2, #ARGV do
    local name = ARGV[place]
    local state = redis.call('HGET', tag .. 'declared', name)
    if state ~= 'ready' then
        local becomes = empty and 'ready' or 'building'
        if state ~= becomes then
            redis.call('HSET', tag .. 'declared', name, becomes)
        end
        if not empty then
            building[#building + 1] = name
        end
    end
end
return building

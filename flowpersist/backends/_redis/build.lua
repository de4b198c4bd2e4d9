-- Write the index entries of newly declared attributes for some records that were there before. May be repeated.
-- KEYS: any key of the tag. ARGV: tag, the bound where to begin, how many, names.
-- Gives the last key that was looked at; '' once all are done, and the attributes are ready.

local tag, from, count = ARGV[1], ARGV[2], tonumber(ARGV[3])
stand_still(tag)
local keys = redis.call('ZRANGEBYLEX', tag .. 'key', from, '+', 'LIMIT', 0, count)
for _, key in ipairs(keys) do
    local fields = fields_of(tag .. 'r:' .. key, 'v', 'a', 'd')
    local attributes, due = attributes_of(fields[2]), fields[3]
    for place = 4, #ARGV do
        local name = ARGV[place]
        local value = value_of(attributes, name)
        if value then
            redis.call('ZADD', tag .. 'key:' .. name .. '=' .. value, 0, key)
            if due and due ~= '' then
                redis.call('ZADD', tag .. 'due:' .. name .. '=' .. value, 0, due .. key)
            end
        end
    end
end
if #keys == count then
    return keys[#keys]
end
for place = 4, #ARGV do
    redis.call('HSET', tag .. 'declared', ARGV[place], 'ready')
end
return ''

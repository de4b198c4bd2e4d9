-- Remove records with their bodies and index entries, each if it stands at a revision, or at any.
-- KEYS: any key of the tag. ARGV: tag, channel or '', then key and revision ('': any) of each.
-- Gives for each: '' where it is not there, 'x' where it was removed, 'damaged' where it is no record of ours, else the
-- revision at which it stands.

local tag, channel = ARGV[1], ARGV[2]
stand_still(tag)
local floor = tonumber(redis.call('GET', tag .. 'floor') or '0')
local raised = floor
local outcomes = {}

local function remove(key, expected)
    local record = tag .. 'r:' .. key
    local old, damaged = fields_of(record, 'v', 'a', 'd', 'u', 'c')
    if damaged then
        return 'damaged'
    end
    local revision, attributes, due, updated, created = old[1], old[2], old[3], old[4], old[5]
    if not revision then
        -- Its indexes may remember one that was taken away by other means.
        redis.call('ZREM', tag .. 'key', key)
        return ''
    end
    if expected ~= '' and revision ~= expected then
        return revision
    end
    if not is_revision(revision) then
        -- The floor could not be raised above it.
        return 'damaged'
    end
    due = due and due ~= '' and due
    redis.call('UNLINK', record, tag .. 'b:' .. key)
    redis.call('ZREM', tag .. 'key', key)
    move(tag .. 'created', created and created .. key, false)
    move(tag .. 'updated', updated and updated .. key, false)
    move(tag .. 'due', due and due .. key, false)
    reindex(tag, key, attributes, due, false, false)
    raised = math.max(raised, tonumber(revision))
    publish(channel, key)
    return 'x'
end

for place = 3, #ARGV, 2 do
    outcomes[#outcomes + 1] = remove(ARGV[place], ARGV[place + 1])
end
-- After the removals, and in the same script: a full server lets a script go on that has freed something.
if raised > floor then
    redis.call('SET', tag .. 'floor', string.format('%.0f', raised))
end
return outcomes

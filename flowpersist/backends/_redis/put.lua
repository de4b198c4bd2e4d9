-- Change one record if it stands at a revision, or whatever it stands at, and the clock is not past a moment.
-- KEYS: the record, its body, the upload (any key of the tag where there is none).
-- ARGV: tag, key, expected revision ('': any), the last moment in time or '', the clock's offset (two), channel or '',
--       write id, attributes ('=': keep), head ('=' keep, else '+' and the head), due ('=': keep, '': never),
--       body ('=': keep, '': drop, else its size).
-- Gives what came of it, the revision and the clock.

local record, body, upload = KEYS[1], KEYS[2], KEYS[3]
local tag, key, expected, not_after, channel = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[7]
local write_id, attributes, head, due, size = ARGV[8], ARGV[9], ARGV[10], ARGV[11], ARGV[12]
local uploaded = size ~= '=' and size ~= ''

local function refuse(outcome, revision, now)
    if uploaded then
        redis.call('UNLINK', upload)
    end
    return {outcome, revision, now}
end

stand_still(tag)
local now = clock(ARGV[5], ARGV[6])
local old, damaged = fields_of(record, 'v', 'a', 'd', 'u', 's', 'w')
if damaged then
    return refuse('damaged', '0', now)
end
local revision, old_attributes, old_due, old_updated, old_size = old[1], old[2], old[3], old[4], old[5]
if expected == '' then
    if revision and not is_revision(revision) then
        return refuse('damaged', '0', now)
    end
    expected = revision or '0'
    if old[6] == write_id then
        return refuse('repeated', expected, now)
    end
elseif (revision or '0') ~= expected then
    return refuse('conflict', revision or '0', now)
end
if not_after ~= '' and is_after(now, not_after) then
    return refuse('late', expected, now)
end
if uploaded and (redis.call('STRLEN', upload) ~= tonumber(size) or (size == '0' and redis.call('EXISTS', upload) == 0)) then
    return refuse('no-body', expected, now)
end

local before = revision or redis.call('GET', tag .. 'floor') or '0'
if tonumber(before) >= LAST_REVISION then
    return refuse('last', expected, now)
end
local next_revision = string.format('%.0f', tonumber(before) + 1)
local new_attributes, new_due = old_attributes, old_due
local fields = {'v', next_revision, 'w', write_id, 'u', now}
if not revision then
    fields[#fields + 1], fields[#fields + 2] = 'c', now
end
if attributes ~= '=' then
    new_attributes = attributes
    fields[#fields + 1], fields[#fields + 2] = 'a', attributes
end
if head ~= '=' then
    fields[#fields + 1], fields[#fields + 2] = 'h', head:sub(2)
end
if due ~= '=' then
    new_due = due ~= '' and due
    fields[#fields + 1], fields[#fields + 2] = 'd', due
end
if size ~= '=' then
    fields[#fields + 1], fields[#fields + 2] = 's', size
end

-- First the one command that a full server refuses: once a script has written, the rest of it is let through.
redis.call('HSET', record, unpack(fields))
if size ~= '=' and old_size and old_size ~= '' then
    -- Before another takes its name: that would free a large one at once.
    redis.call('UNLINK', body)
end
if uploaded then
    redis.call('RENAME', upload, body)
    redis.call('PERSIST', body)
end
if not revision then
    redis.call('ZADD', tag .. 'key', 0, key)
    redis.call('ZADD', tag .. 'created', 0, now .. key)
end
old_due = old_due and old_due ~= '' and old_due
new_due = new_due and new_due ~= '' and new_due
move(tag .. 'updated', old_updated and old_updated .. key, now .. key)
move(tag .. 'due', old_due and old_due .. key, new_due and new_due .. key)
if new_attributes ~= old_attributes or new_due ~= old_due then
    reindex(tag, key, old_attributes, old_due, new_attributes, new_due)
end
publish(channel, key)
return {'done', next_revision, now}

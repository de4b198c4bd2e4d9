-- Write the schema where none is, and give the one that stands.
-- KEYS: the schema. ARGV: version, number of shards.

redis.call('HSETNX', KEYS[1], 'version', ARGV[1])
redis.call('HSETNX', KEYS[1], 'shards', ARGV[2])
return redis.call('HMGET', KEYS[1], 'version', 'shards')

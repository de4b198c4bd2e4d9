-- The statements of the file system backend's index. The files are the truth; the index may be thrown away at any time.
-- An entry is written before its record and removed after it, so the entries are a superset and each hit is verified.

-- name: create_meta
create table if not exists meta (name text primary key, value text not null) without rowid;

-- name: create_entries
-- digest names the record's file and its shard; body is the name part of its body file, null where it lies inside.
create table if not exists entries (
    digest text not null,
    revision integer not null,
    namespace text not null,
    key text not null,
    created_at integer not null,
    updated_at integer not null,
    due_at integer,
    body text,
    attributes text not null,
    primary key (digest, revision)
);

-- name: create_by_key
create index if not exists entries_by_key on entries (namespace, key);

-- name: create_by_created
create index if not exists entries_by_created on entries (namespace, created_at, key);

-- name: create_by_updated
create index if not exists entries_by_updated on entries (namespace, updated_at, key);

-- name: create_by_due
create index if not exists entries_by_due on entries (namespace, due_at, key) where due_at is not null;

-- name: read_meta
select value from meta where name = ?;

-- name: write_meta
insert into meta (name, value) values (?, ?) on conflict (name) do update set value = excluded.value;

-- name: add
insert or replace into entries (digest, revision, namespace, key, created_at, updated_at, due_at, body, attributes)
values (?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: remove
delete from entries where digest = ?;

-- name: remove_below
delete from entries where digest = ? and revision < ?;

-- name: remove_shard
-- A shard is all digests of one prefix: from it, up to the prefix followed by a letter after all hex digits.
delete from entries where digest >= :shard and digest < :shard || 'g';

-- name: all
select digest, body from entries;

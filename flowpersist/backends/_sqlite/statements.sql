-- The statements of the SQLite backend. Each begins with a line that names it.
-- Times are whole microseconds since the epoch, UTC. Attributes are a JSON object of canonical texts (_scalars.py).

-- name: create_meta
-- Versions and counters. 'floor' is the highest revision of any record that was deleted: a new record begins above it, so
-- that no revision of a reference is ever used twice.
create table if not exists flowpersist_meta (name text primary key, value integer not null) without rowid;

-- name: create_records
-- The head comes last: it may spill onto pages of its own, which are then not read for the columns before it.
create table if not exists flowpersist_records (
    id integer primary key,
    namespace text not null,
    key text not null,
    revision integer not null,
    write_id text not null,
    created_at integer not null,
    updated_at integer not null,
    due_at integer,
    body_size integer,
    attributes text not null,
    head blob not null
);

-- name: create_bodies
-- Apart from the records, so that changing or listing a record neither writes nor reads its body.
create table if not exists flowpersist_bodies (record integer primary key, data blob not null);

-- name: create_by_key
create unique index if not exists flowpersist_records_by_key on flowpersist_records (namespace, key);

-- name: create_by_created
create index if not exists flowpersist_records_by_created on flowpersist_records (namespace, created_at, key);

-- name: create_by_updated
create index if not exists flowpersist_records_by_updated on flowpersist_records (namespace, updated_at, key);

-- name: create_by_due
create index if not exists flowpersist_records_by_due on flowpersist_records (namespace, due_at, key)
where due_at is not null;

-- name: has_meta
select count(*) from sqlite_master where type = 'table' and name = 'flowpersist_meta';

-- name: index_names
select name from sqlite_master where type = 'index' and tbl_name = 'flowpersist_records';

-- name: read_meta
select value from flowpersist_meta where name = ?;

-- name: write_meta
insert into flowpersist_meta (name, value) values (?, ?)
on conflict (name) do update set value = excluded.value;

-- name: raise_floor
update flowpersist_meta set value = max(value, ?) where name = 'floor';

-- name: columns
-- What a row is read as. Nothing larger than a put makes it leaves the database: a damaged row may hold a gigabyte in any
-- column. Of each: a key, a write id, 64 attributes as text, a head.
case when length(key) <= 512 then key end, revision, case when length(write_id) <= 64 then write_id end,
created_at, updated_at, due_at, body_size,
case when length(attributes) <= 393728 then attributes end, case when length(head) <= 262144 then head end, id;

-- name: read_record
-- With its body where that is smaller than so many bytes: a larger one is read by SQLite's incremental interface.
select
    {columns},
    case when body_size < ? then (select data from flowpersist_bodies where record = id) end
from flowpersist_records where namespace = ? and key = ?;

-- name: read_body
-- Only if it is smaller than so many bytes: larger ones are read by SQLite's incremental interface.
select case when length(data) < ? then data end from flowpersist_bodies where record = ?;

-- name: read_revision
select revision from flowpersist_records where id = ?;

-- name: read_standing
-- What a put must know of the record that it changes, nulls where there is none, and the revision that a new one is above.
select id, revision, case when length(write_id) <= 64 then write_id end,
    case when length(attributes) <= 393728 then attributes end, value
from flowpersist_meta left join flowpersist_records on namespace = ? and key = ?
where name = 'floor';

-- name: insert_record
insert into flowpersist_records
    (id, revision, namespace, key, write_id, created_at, updated_at, due_at, body_size, attributes, head)
values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: read_ends
-- What new records are above: their revisions and their ids.
select value, (select coalesce(max(id), 0) from flowpersist_records) from flowpersist_meta where name = 'floor';

-- name: insert_records
-- The row of one stands for as many as there are.
insert into flowpersist_records
    (id, revision, namespace, key, write_id, created_at, updated_at, due_at, body_size, attributes, head)
values (?) on conflict (namespace, key) do nothing;

-- name: insert_bodies
-- The row of one stands for as many as there are. A body that some record has left behind gives way.
insert into flowpersist_bodies (record, data) values (?)
on conflict (record) do update set data = excluded.data;

-- name: read_inserted
select id from flowpersist_records where id > ?;

-- name: delete_record
delete from flowpersist_records where id = ?;

-- name: write_body
insert into flowpersist_bodies (record, data) values (?, ?)
on conflict (record) do update set data = excluded.data;

-- name: delete_body
delete from flowpersist_bodies where record = ?;

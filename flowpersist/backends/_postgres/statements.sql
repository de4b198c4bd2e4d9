-- The statements of the PostgreSQL backend. Each begins with a line that names it.
--
-- Where these say flowpersist_, a backend of another prefix has its own, and {names} in braces stand for other parts of
-- this file (layout.py). In what reads or writes records $1 is the clock's offset, $2 the namespace, $3 the key. Times are whole microseconds since
-- the epoch, UTC; the clock is clock_timestamp(), since now() stands still for the length of a transaction. Attributes are
-- a JSON object of canonical texts (_scalars.py), so that no two values of different types are one to jsonb.
--
-- A write is one statement, and so one transaction, at READ COMMITTED: an update that waited for another's lock evaluates
-- its whole WHERE again, on the row as it is then. Nothing that decides may come from a subquery or CTE, which would not
-- be evaluated again. Where the other one rolled back, the row is as it was, and nothing is evaluated again: so the
-- deadline is looked at once more in RETURNING, which comes after all waiting.

-- name: create_meta
create table if not exists flowpersist_meta (name text collate "C" primary key, value bigint not null)

-- name: create_revisions
-- All revisions of all records come from here, so that none is ever used twice, also not after a delete or a rollback.
create sequence if not exists flowpersist_revisions

-- name: create_records
create table if not exists flowpersist_records (
    id bigint generated always as identity primary key,
    namespace text collate "C" not null,
    key text collate "C" not null,
    revision bigint not null,
    write_id text collate "C" not null,
    created_at bigint not null,
    updated_at bigint not null,
    due_at bigint,
    body_size bigint,
    attributes jsonb not null,
    head bytea not null
)

-- name: create_bodies
-- Apart from the records, so that changing or listing a record neither writes nor reads its body.
create table if not exists flowpersist_bodies (record bigint primary key, data bytea not null)

-- name: store_heads_plain
-- Sealed bytes don't compress; trying takes seven times as long as storing them.
alter table flowpersist_records alter column head set storage external

-- name: store_bodies_plain
alter table flowpersist_bodies alter column data set storage external

-- name: create_by_key
create unique index if not exists flowpersist_records_by_key on flowpersist_records (namespace, key)

-- name: create_by_created
create index if not exists flowpersist_records_by_created on flowpersist_records (namespace, created_at, key)

-- name: create_by_updated
create index if not exists flowpersist_records_by_updated on flowpersist_records (namespace, updated_at, key)

-- name: create_by_due
create index if not exists flowpersist_records_by_due on flowpersist_records (namespace, due_at, key)
where due_at is not null

-- name: create_by_attributes
-- For attributes that no namespace declares. It holds hashes, so that long values fit. A list of what is yet to be put into
-- it (fastupdate) would make the planner avoid it, and now and then one write pay for hundreds.
create index if not exists flowpersist_records_by_attributes on flowpersist_records
using gin (attributes jsonb_path_ops) with (fastupdate = off)

-- name: about_server
select
    current_setting('server_encoding') as encoding,
    pg_is_in_recovery() as standby,
    current_setting('transaction_read_only') = 'on' as read_only,
    current_schema()::text as schema

-- name: has_meta
select to_regclass($1::text) is not null

-- name: read_version
select value from flowpersist_meta where name = 'version'

-- name: index_names
select c.relname::text as name, i.indisvalid as valid
from pg_index i
join pg_class c on c.oid = i.indexrelid
where i.indrelid = to_regclass($1::text)

-- name: lock_schema
-- Until the end of the transaction: of many processes that start at once, one migrates, and the rest find it done.
select pg_advisory_xact_lock(hashtextextended($1::text, 0))

-- name: now
(extract(epoch from clock_timestamp()) * 1000000)::bigint + $1::bigint

-- name: columns
-- What a row is read as. Nothing larger than a put makes it leaves the server: a damaged row may hold a gigabyte. Of each: a
-- write id, 64 attributes as text (made twice only where it may be long), a head.
key, revision, case when octet_length(write_id) <= 64 then write_id end as write_id, created_at, updated_at, due_at, body_size,
case
    when pg_column_size(attributes) <= 2000 then attributes::text
    when octet_length(attributes::text) <= 787456 then attributes::text
end as attributes,
case when octet_length(head) <= 262144 then head end as head

-- name: read_record
select {columns}, {now} as now
from (values (1)) as always
left join flowpersist_records on namespace = $2 and key = $3

-- name: read_record_and_body
select {columns}, {now} as now, data
from (values (1)) as always
left join flowpersist_records on namespace = $2 and key = $3
left join flowpersist_bodies on record = id

-- name: read_records
-- $2 and $3 are the namespaces and keys. One row for each of them, in their order.
select {columns}, {now} as now
from unnest($2::text[], $3::text[]) with ordinality as asked (of_namespace, of_key, place)
left join flowpersist_records on namespace = of_namespace collate "C" and key = of_key collate "C"
order by place

-- name: read_records_and_bodies
select {columns}, {now} as now, data
from unnest($2::text[], $3::text[]) with ordinality as asked (of_namespace, of_key, place)
left join flowpersist_records on namespace = of_namespace collate "C" and key = of_key collate "C"
left join flowpersist_bodies on record = id
order by place

-- name: read_clock
select {now} as now

-- name: read_standing
select {now} as now, revision
from (values (1)) as always
left join flowpersist_records on namespace = $2 and key = $3

-- name: outcome
-- What a write gives: that it was done, or what stood there as the statement began. $4 is the channel to notify.
select true as done, revision, now, case when $4::text is not null then pg_notify($4, $3) end from done
union all
select false, revision, {now}, null
from (values (1)) as always
left join flowpersist_records on namespace = $2 and key = $3
where not exists (select from done)

-- name: late
-- An error that undoes the statement. It depends on the row, so that the planner does not come upon it beforehand.
case when {now} > $6::bigint then ('flowpersist: late ' || revision)::bigint end

-- name: insert_record
-- $6 is the deadline.
with done as (
    insert into flowpersist_records
        (namespace, key, revision, write_id, created_at, updated_at, due_at, attributes, head, body_size)
    select $2, $3, nextval('flowpersist_revisions'), $5, clock.now, clock.now, $7, $8::text::jsonb, $9, $10
    from (select {now} as now) as clock
    where $6::bigint is null or clock.now <= $6
    on conflict (namespace, key) do nothing
    returning id, revision, updated_at as now, {late}
){body}
{outcome}

-- name: change_record
-- $6 is the deadline, $7 the revision. A part that stays is given as null; for due_at $8 says that it stays.
with done as (
    update flowpersist_records set
        revision = nextval('flowpersist_revisions'),
        write_id = $5,
        updated_at = {now},
        due_at = case when $8::boolean then due_at else $9::bigint end,
        attributes = coalesce($10::text::jsonb, attributes),
        head = coalesce($11::bytea, head){body_size}
    where namespace = $2 and key = $3 and revision = $7 and ($6::bigint is null or {now} <= $6)
    returning id, revision, updated_at as now, {late}
){body}
{outcome}

-- name: set_body
, body as (
    insert into flowpersist_bodies (record, data) select id, {data}::bytea from done
    on conflict (record) do update set data = excluded.data
)

-- name: drop_body
, body as (
    delete from flowpersist_bodies using done where record = done.id
)

-- name: unmoved
-- True if the record is unchanged since the statement began. Its body is unchanged then, too. A statement does not see a body
-- that another transaction wrote while the statement waited for its lock, and so would not delete it.
revision = (select revision from flowpersist_records where namespace = $2 and key = $3)

-- name: as_seen
 and standing.{unmoved}

-- name: upsert_record
-- Creates or replaces a record at any revision. $6 is the deadline, $7 to $9 are the parts of a new record; $10 to $12 are true
-- for each part that an existing record keeps. A record that this write has made already is not changed.
with done as (
    insert into flowpersist_records as standing
        (namespace, key, revision, write_id, created_at, updated_at, due_at, attributes, head, body_size)
    select $2, $3, nextval('flowpersist_revisions'), $5, clock.now, clock.now, $7, $8::text::jsonb, $9, {new_size}
    from (select {now} as now) as clock
    where $6::bigint is null or clock.now <= $6
    on conflict (namespace, key) do update set
        revision = nextval('flowpersist_revisions'),
        write_id = excluded.write_id,
        updated_at = {now},
        due_at = case when $10::boolean then standing.due_at else excluded.due_at end,
        attributes = case when $11::boolean then standing.attributes else excluded.attributes end,
        head = case when $12::boolean then standing.head else excluded.head end,
        body_size = {size}
    where standing.write_id <> excluded.write_id and ($6::bigint is null or {now} <= $6)
    {as_seen}
    returning id, revision, updated_at as now, {late}
){body}
{outcome}

-- name: drop_body_of
-- Runs in the transaction that has locked the record, so it sees every body that was written before.
delete from flowpersist_bodies using flowpersist_records where record = id and namespace = $1 and key = $2

-- name: delete_any
with done as (
    delete from flowpersist_records where namespace = $2 and key = $3 and {unmoved}
    returning id, revision, {now} as now
), body as (
    delete from flowpersist_bodies using done where record = done.id
)
{outcome}

-- name: delete_moved
-- Deletes the record alone, at any revision; purge_bodies then deletes its body. $3 is the channel to notify.
delete from flowpersist_records where namespace = $1 and key = $2
returning id, case when $3::text is not null then pg_notify($3, key) end

-- name: delete_record
with done as (
    delete from flowpersist_records where namespace = $2 and key = $3 and revision = $5
    returning id, revision, {now} as now
), body as (
    delete from flowpersist_bodies using done where record = done.id
)
{outcome}

-- name: page
-- {selected} is a selection. It is joined to the clock, which is told also where nothing is found.
select {columns}, now
from (select {now} as now) as clock
left join lateral (select * {selected}) as found on true
{order}

-- name: page_with_bodies
-- The same with the bodies of the first so many records, and of these with as many as may come with one page.
select {columns}, now, whole, case when whole then (select data from flowpersist_bodies where record = found.id) end as data
from (select {now} as now) as clock
left join lateral (
    select *, row_number() over ({order}) <= {count}
        and (row_number() over ({order}) = 1 or sum(body_size) over ({order} rows unbounded preceding) <= {bytes}) as whole
    from (select * {selected}) as chosen
) as found on true
{order}

-- name: purge_records
-- {selected} is a selection, whose rows are locked; $1 is the channel to notify. What another has locked is busy, so it is
-- passed over. The conditions hold for the rows as they are once they are locked.
with purged as (
    select id {selected} for update skip locked
)
delete from flowpersist_records where id = any (array(select id from purged))
returning id, case when $1::text is not null then pg_notify($1, key) end

-- name: purge_bodies
-- A statement of its own in the same transaction: it sees a body that was written while the one before waited.
delete from flowpersist_bodies where record = any ($1::bigint[])

-- name: ping
select {now} as now, current_setting('synchronous_commit') as synchronous_commit, current_setting('fsync') as fsync,
    current_setting('full_page_writes') as full_page_writes, current_setting('transaction_read_only') as read_only

-- The resource groups of an account. It has one more, its default group, which is no row: its id follows from the account's.
create table resource_group (
  account_id bigint not null references account,
  resource_group_id text not null,
  name text not null,
  created_at timestamptz not null default now(),
  primary key (account_id, resource_group_id),
  unique (account_id, name)
);

-- Null: the account's default group, so that what a binary before this schema stores is in it, and no row of a group is
-- locked for it.
alter table server_certificate add column resource_group_id text;
alter table server_certificate add foreign key (account_id, resource_group_id) references resource_group;
create index server_certificate_of_group on server_certificate (account_id, coalesce(resource_group_id, ''), created_ms, random)
  where deleted_at is null;
alter table ca_certificate add column resource_group_id text;
alter table ca_certificate add foreign key (account_id, resource_group_id) references resource_group;
create index ca_certificate_of_group on ca_certificate (account_id, coalesce(resource_group_id, ''), created_ms, random)
  where deleted_at is null;

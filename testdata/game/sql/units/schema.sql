create table units (
  id bigint primary key,
  match_id bigint not null,
  player_id bigint not null,
  province_id bigint not null,
  type text not null,
  name text not null,
  hp int not null,
  strength int not null,
  experience int not null,
  is_moving boolean not null,
  target_id bigint not null,
  arrives_at timestamp, -- null: at rest
  moved_at timestamp,
  stance text,
  client_ref text not null
);
create index on units (match_id);
create index on units (player_id);
create table provinces (
  id bigint primary key,
  match_id bigint not null,
  name text not null,
  x int not null,
  y int not null,
  terrain text not null,
  owner_id bigint not null, -- 0: nobody
  level int not null,
  is_capital boolean not null
);
create index on provinces (match_id);
create table players (
  id bigint primary key,
  match_id bigint not null,
  name text not null,
  color text not null
);

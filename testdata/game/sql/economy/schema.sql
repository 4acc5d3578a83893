create table resources (
  player_id bigint primary key,
  match_id bigint not null,
  gold double precision not null,
  wood double precision not null,
  iron double precision not null,
  gold_rate double precision not null, -- per hour
  wood_rate double precision not null,
  iron_rate double precision not null,
  storage bigint not null,
  updated_at bigint not null -- unix time at which the stocks were so
);
create index on resources (match_id);
create table trades (
  id bigint primary key,
  match_id bigint not null,
  seller_id bigint not null,
  buyer_id bigint not null, -- 0: nobody yet
  give_type text not null,
  give_amount double precision not null,
  want_type text not null,
  want_amount double precision not null,
  status int not null, -- 0 open, 1 accepted, 2 cancelled, 3 expired
  expires_at timestamp not null
);
create index on trades (match_id) where status = 0;
create table provinces (
  id bigint primary key,
  match_id bigint not null,
  terrain text not null,
  owner_id bigint not null,
  level int not null
);
create index on provinces (match_id);

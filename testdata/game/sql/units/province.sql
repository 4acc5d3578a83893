insert into provinces (id, match_id, name, x, y, terrain, owner_id, level, is_capital)
select id, match, name, x, y, terrain, owner, level, capital
  from jsonb_to_recordset($1) as e(id bigint, match bigint, name text, x int, y int, terrain text, owner bigint, level int, capital boolean)
on conflict (id) do update set match_id = excluded.match_id, name = excluded.name, x = excluded.x, y = excluded.y, terrain = excluded.terrain,
  owner_id = excluded.owner_id, level = excluded.level, is_capital = excluded.is_capital

insert into provinces (id, match_id, terrain, owner_id, level)
select id, match, terrain, owner, level from jsonb_to_recordset($1) as e(id bigint, match bigint, terrain text, owner bigint, level int)
on conflict (id) do update set match_id = excluded.match_id, terrain = excluded.terrain, owner_id = excluded.owner_id, level = excluded.level

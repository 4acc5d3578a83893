insert into players (id, match_id, name, color)
select id, match, name, color from jsonb_to_recordset($1) as e(id bigint, match bigint, name text, color text)
on conflict (id) do update set match_id = excluded.match_id, name = excluded.name, color = excluded.color

insert into units (id, match_id, player_id, province_id, type, name, hp, strength, experience, is_moving, target_id, arrives_at, moved_at, stance, client_ref)
select id, match, player, province, type, name, hp, strength, experience, moving, target, arrives_at, moved_at, stance, client_ref
  from jsonb_to_recordset($1) as e(id bigint, match bigint, player bigint, province bigint, type text, name text, hp int, strength int, experience int,
    moving boolean, target bigint, arrives_at timestamp, moved_at timestamp, stance text, client_ref text)
on conflict (id) do update set match_id = excluded.match_id, player_id = excluded.player_id, province_id = excluded.province_id, type = excluded.type,
  name = excluded.name, hp = excluded.hp, strength = excluded.strength, experience = excluded.experience, is_moving = excluded.is_moving,
  target_id = excluded.target_id, arrives_at = excluded.arrives_at, moved_at = excluded.moved_at, stance = excluded.stance, client_ref = excluded.client_ref

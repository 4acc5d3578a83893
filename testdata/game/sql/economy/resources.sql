insert into resources (player_id, match_id, gold, wood, iron, gold_rate, wood_rate, iron_rate, storage, updated_at)
select player, match, gold, wood, iron, gold_rate, wood_rate, iron_rate, storage, updated_at
  from jsonb_to_recordset($1) as e(player bigint, match bigint, gold float8, wood float8, iron float8, gold_rate float8, wood_rate float8, iron_rate float8,
    storage bigint, updated_at bigint)
on conflict (player_id) do update set match_id = excluded.match_id, gold = excluded.gold, wood = excluded.wood, iron = excluded.iron,
  gold_rate = excluded.gold_rate, wood_rate = excluded.wood_rate, iron_rate = excluded.iron_rate, storage = excluded.storage, updated_at = excluded.updated_at

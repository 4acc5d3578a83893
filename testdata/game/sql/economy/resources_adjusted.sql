update resources r set gold = r.gold + e.gold, wood = r.wood + e.wood, iron = r.iron + e.iron, gold_rate = r.gold_rate + e.gold_rate,
    wood_rate = r.wood_rate + e.wood_rate, iron_rate = r.iron_rate + e.iron_rate, storage = r.storage + e.storage, updated_at = e.updated_at
  from jsonb_to_recordset($1) as e(player bigint, gold float8, wood float8, iron float8, gold_rate float8, wood_rate float8, iron_rate float8, storage bigint,
    updated_at bigint)
 where r.player_id = e.player

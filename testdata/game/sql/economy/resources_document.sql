-- Stocks as they were at updated_at; who shows them adds what was produced since.
select k.player, json_build_object('player', r.player_id, 'match', r.match_id, 'gold', r.gold, 'wood', r.wood, 'iron', r.iron,
  'gold_rate', r.gold_rate, 'wood_rate', r.wood_rate, 'iron_rate', r.iron_rate, 'storage', r.storage, 'updated_at', r.updated_at)
from jsonb_to_recordset($1) as k(player bigint) join resources r on r.player_id = k.player

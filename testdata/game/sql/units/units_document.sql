-- As api.php?action=units, but arrives_in, which is counted when it is shown. {"units": []} for a player without units.
select k.player, json_build_object('units', coalesce((select json_agg(json_build_object('id', u.id, 'match', u.match_id, 'type', u.type, 'name', u.name,
    'province', u.province_id, 'hp', u.hp, 'strength', u.strength, 'experience', u.experience, 'target', u.target_id,
    'arrives_at', case when u.is_moving then extract(epoch from u.arrives_at)::bigint end, 'stance', u.stance, 'client_ref', u.client_ref) order by u.id)
  from units u where u.player_id = k.player and u.hp > 0), '[]'))
from jsonb_to_recordset($1) as k(player bigint)

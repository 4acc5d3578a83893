-- As api.php?action=map: every value a string.
select k.match, json_build_object(
  'provinces', coalesce((select json_agg(json_build_object('id', p.id::text, 'name', p.name, 'x', p.x::text, 'y', p.y::text, 'terrain', p.terrain,
      'owner_id', p.owner_id::text, 'level', p.level::text, 'is_capital', p.is_capital::int::text, 'owner', coalesce(o.name, ''), 'color', coalesce(o.color, ''))
      order by p.y, p.x, p.id)
    from provinces p left join players o on o.id = p.owner_id where p.match_id = k.match), '[]'),
  'units', coalesce((select json_agg(json_build_object('id', u.id::text, 'player_id', u.player_id::text, 'province_id', u.province_id::text, 'type', u.type,
      'hp', u.hp::text, 'target_id', u.target_id::text, 'arrives_at', coalesce(to_char(u.arrives_at, 'YYYY-MM-DD HH24:MI:SS'), '0000-00-00 00:00:00'))
      order by u.id)
    from units u where u.match_id = k.match and u.hp > 0), '[]'))
from jsonb_to_recordset($1) as k(match bigint)

update units u set province_id = e.province, is_moving = e.moving, target_id = e.target, arrives_at = e.arrives_at, moved_at = e.moved_at,
    client_ref = coalesce(e.client_ref, u.client_ref)
  from jsonb_to_recordset($1) as e(unit bigint, province bigint, moving boolean, target bigint, arrives_at timestamp, moved_at timestamp, client_ref text)
 where u.id = e.unit

update units u set hp = e.hp, experience = e.experience
  from jsonb_to_recordset($1) as e(unit bigint, hp int, experience int) where u.id = e.unit

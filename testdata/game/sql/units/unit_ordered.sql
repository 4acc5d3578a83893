update units u set stance = e.stance, client_ref = e.client_ref
  from jsonb_to_recordset($1) as e(unit bigint, stance text, client_ref text) where u.id = e.unit

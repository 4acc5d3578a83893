update units u set client_ref = e.client_ref
  from jsonb_to_recordset($1) as e(unit bigint, client_ref text) where u.id = e.unit

delete from units u using jsonb_to_recordset($1) as e(unit bigint) where u.id = e.unit

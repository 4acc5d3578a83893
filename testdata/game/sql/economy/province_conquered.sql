update provinces p set owner_id = e.owner
  from jsonb_to_recordset($1) as e(province bigint, owner bigint) where p.id = e.province

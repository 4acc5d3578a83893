update provinces p set level = e.level
  from jsonb_to_recordset($1) as e(province bigint, level int) where p.id = e.province

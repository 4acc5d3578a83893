update trades t set status = 2 from jsonb_to_recordset($1) as e(trade bigint) where t.id = e.trade

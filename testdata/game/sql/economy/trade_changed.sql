update trades t set status = e.status, buyer_id = e.buyer from jsonb_to_recordset($1) as e(trade bigint, status int, buyer bigint) where t.id = e.trade

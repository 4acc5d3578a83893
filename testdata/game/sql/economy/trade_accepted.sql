update trades t set status = 1, buyer_id = e.buyer from jsonb_to_recordset($1) as e(trade bigint, buyer bigint) where t.id = e.trade

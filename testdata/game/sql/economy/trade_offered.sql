insert into trades (id, match_id, seller_id, buyer_id, give_type, give_amount, want_type, want_amount, status, expires_at)
select trade, match, seller, 0, give_type, give_amount, want_type, want_amount, 0, expires_at
  from jsonb_to_recordset($1) as e(trade bigint, match bigint, seller bigint, give_type text, give_amount float8, want_type text, want_amount float8, expires_at timestamp)
on conflict (id) do nothing

insert into trades (id, match_id, seller_id, buyer_id, give_type, give_amount, want_type, want_amount, status, expires_at)
select trade, match, seller, buyer, give_type, give_amount, want_type, want_amount, status, expires_at
  from jsonb_to_recordset($1) as e(trade bigint, match bigint, seller bigint, buyer bigint, give_type text, give_amount float8, want_type text, want_amount float8,
    status int, expires_at timestamp)
on conflict (id) do update set match_id = excluded.match_id, seller_id = excluded.seller_id, buyer_id = excluded.buyer_id, give_type = excluded.give_type,
  give_amount = excluded.give_amount, want_type = excluded.want_type, want_amount = excluded.want_amount, status = excluded.status, expires_at = excluded.expires_at

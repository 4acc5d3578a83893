-- As api.php?action=trades: the open ones, every value a string.
select k.match, json_build_object('trades', coalesce((select json_agg(json_build_object('id', t.id::text, 'seller_id', t.seller_id::text, 'give_type', t.give_type,
    'give_amount', t.give_amount::float4::text, 'want_type', t.want_type, 'want_amount', t.want_amount::float4::text,
    'expires_at', to_char(t.expires_at, 'YYYY-MM-DD HH24:MI:SS')) order by t.id)
  from trades t where t.match_id = k.match and t.status = 0), '[]'))
from jsonb_to_recordset($1) as k(match bigint)

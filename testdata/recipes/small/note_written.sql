insert into notes (id, book, author, body)
select id, book, author, body from jsonb_to_recordset($1) as e(id bigint, book bigint, author text, body text)
on conflict (id) do update set book = excluded.book, author = excluded.author, body = excluded.body

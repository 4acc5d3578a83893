create table notes (id bigint primary key, book bigint not null, author text not null, body text not null);

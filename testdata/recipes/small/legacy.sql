create table notes (id int unsigned not null auto_increment primary key, book int unsigned not null, author varchar(40) not null, body text not null) charset utf8mb4;

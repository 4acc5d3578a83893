-- Provinces & Purses, game database. MySQL 4.1 or newer.
-- 2009-03-02 first version / 2011: messages to its own table / 2013: client_ref for the AJAX client / 2019: utf8

DROP TABLE IF EXISTS matches;
CREATE TABLE matches (
  id INT UNSIGNED NOT NULL AUTO_INCREMENT,
  name VARCHAR(60) NOT NULL DEFAULT '',
  width SMALLINT UNSIGNED NOT NULL DEFAULT 0,
  height SMALLINT UNSIGNED NOT NULL DEFAULT 0,
  speed FLOAT NOT NULL DEFAULT 1,
  status TINYINT(1) NOT NULL DEFAULT 1,
  started_at DATETIME NOT NULL DEFAULT '0000-00-00 00:00:00',
  ends_at DATETIME NOT NULL DEFAULT '0000-00-00 00:00:00',   -- zero: runs until somebody wins
  last_cron INT UNSIGNED NOT NULL DEFAULT 0,
  PRIMARY KEY (id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8;

DROP TABLE IF EXISTS players;
CREATE TABLE players (
  id INT UNSIGNED NOT NULL AUTO_INCREMENT,
  match_id INT UNSIGNED NOT NULL DEFAULT 0,
  name VARCHAR(40) NOT NULL DEFAULT '',
  email VARCHAR(80) NOT NULL DEFAULT '',
  password CHAR(32) NOT NULL DEFAULT '',                     -- md5(salt . password)
  color CHAR(6) NOT NULL DEFAULT '888888',
  score INT NOT NULL DEFAULT 0,
  settings TEXT NOT NULL,                                    -- serialize()
  signature VARCHAR(200) CHARACTER SET latin1 NOT NULL DEFAULT '',
  premium_until VARCHAR(12) NOT NULL DEFAULT '',             -- unix time, '' = never had it
  views INT UNSIGNED NOT NULL DEFAULT 0,
  is_admin TINYINT(1) NOT NULL DEFAULT 0,
  is_npc TINYINT(1) NOT NULL DEFAULT 0,
  last_seen DATETIME NOT NULL DEFAULT '0000-00-00 00:00:00',
  PRIMARY KEY (id),
  UNIQUE KEY name (name),
  KEY match_id (match_id, score)
) ENGINE=InnoDB DEFAULT CHARSET=utf8;

DROP TABLE IF EXISTS resources;
CREATE TABLE resources (
  player_id INT UNSIGNED NOT NULL DEFAULT 0,
  match_id INT UNSIGNED NOT NULL DEFAULT 0,
  gold FLOAT NOT NULL DEFAULT 0,
  wood FLOAT NOT NULL DEFAULT 0,
  iron FLOAT NOT NULL DEFAULT 0,
  gold_rate FLOAT NOT NULL DEFAULT 0,                        -- per hour
  wood_rate FLOAT NOT NULL DEFAULT 0,
  iron_rate FLOAT NOT NULL DEFAULT 0,
  storage INT UNSIGNED NOT NULL DEFAULT 20000,
  updated_at INT UNSIGNED NOT NULL DEFAULT 0,                -- unix time of the last tick
  PRIMARY KEY (player_id),
  KEY match_id (match_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8;

DROP TABLE IF EXISTS provinces;
CREATE TABLE provinces (
  id INT UNSIGNED NOT NULL AUTO_INCREMENT,
  match_id INT UNSIGNED NOT NULL DEFAULT 0,
  name VARCHAR(60) CHARACTER SET latin1 NOT NULL DEFAULT '',
  x SMALLINT NOT NULL DEFAULT 0,
  y SMALLINT NOT NULL DEFAULT 0,
  terrain ENUM('plain','forest','hill') NOT NULL DEFAULT 'plain',
  owner_id INT UNSIGNED NOT NULL DEFAULT 0,                  -- 0 = nobody
  level TINYINT UNSIGNED NOT NULL DEFAULT 0,
  tax VARCHAR(6) NOT NULL DEFAULT '',                        -- percent, '' = the default of 10
  is_capital TINYINT(1) NOT NULL DEFAULT 0,
  built_at DATETIME NOT NULL DEFAULT '0000-00-00 00:00:00',
  client_ref VARCHAR(40) NOT NULL DEFAULT '',
  PRIMARY KEY (id),
  KEY match_id (match_id),
  KEY owner_id (owner_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8;

DROP TABLE IF EXISTS units;
CREATE TABLE units (
  id INT UNSIGNED NOT NULL AUTO_INCREMENT,
  match_id INT UNSIGNED NOT NULL DEFAULT 0,
  player_id INT UNSIGNED NOT NULL DEFAULT 0,
  province_id INT UNSIGNED NOT NULL DEFAULT 0,
  type ENUM('scout','spear','knight','siege') NOT NULL DEFAULT 'spear',
  name VARCHAR(40) CHARACTER SET latin1 NOT NULL DEFAULT '',
  hp SMALLINT NOT NULL DEFAULT 100,                          -- 0 = dead, cron removes it
  strength SMALLINT NOT NULL DEFAULT 10,
  experience VARCHAR(8) NOT NULL DEFAULT '',                 -- '' until the first battle
  is_moving TINYINT(1) NOT NULL DEFAULT 0,
  target_id INT UNSIGNED NOT NULL DEFAULT 0,                 -- province
  arrives_at DATETIME NOT NULL DEFAULT '0000-00-00 00:00:00',
  moved_at DATETIME NOT NULL DEFAULT '0000-00-00 00:00:00',  -- NOW() of the last order to move
  orders TEXT NOT NULL,                                      -- serialize()
  client_ref VARCHAR(40) NOT NULL DEFAULT '',
  PRIMARY KEY (id),
  KEY match_id (match_id),
  KEY player_id (player_id),
  KEY province_id (province_id),
  KEY arrives_at (arrives_at)
) ENGINE=InnoDB DEFAULT CHARSET=utf8;

DROP TABLE IF EXISTS trades;
CREATE TABLE trades (
  id INT UNSIGNED NOT NULL AUTO_INCREMENT,
  match_id INT UNSIGNED NOT NULL DEFAULT 0,
  seller_id INT UNSIGNED NOT NULL DEFAULT 0,
  buyer_id INT UNSIGNED NOT NULL DEFAULT 0,                  -- 0 = nobody yet
  give_type ENUM('gold','wood','iron') NOT NULL DEFAULT 'gold',
  give_amount FLOAT NOT NULL DEFAULT 0,
  want_type ENUM('gold','wood','iron') NOT NULL DEFAULT 'wood',
  want_amount FLOAT NOT NULL DEFAULT 0,
  status TINYINT NOT NULL DEFAULT 0,                         -- 0 open 1 accepted 2 cancelled 3 expired
  created_at DATETIME NOT NULL DEFAULT '0000-00-00 00:00:00',
  expires_at DATETIME NOT NULL DEFAULT '0000-00-00 00:00:00',
  accepted_at DATETIME NOT NULL DEFAULT '0000-00-00 00:00:00',
  client_ref VARCHAR(40) NOT NULL DEFAULT '',
  PRIMARY KEY (id),
  KEY match_id (match_id, status),
  KEY seller_id (seller_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8;

-- one row per direction
DROP TABLE IF EXISTS diplomacy;
CREATE TABLE diplomacy (
  match_id INT UNSIGNED NOT NULL DEFAULT 0,
  player_id INT UNSIGNED NOT NULL DEFAULT 0,
  other_id INT UNSIGNED NOT NULL DEFAULT 0,
  status ENUM('war','peace','alliance') NOT NULL DEFAULT 'war',
  since DATETIME NOT NULL DEFAULT '0000-00-00 00:00:00',
  client_ref VARCHAR(40) NOT NULL DEFAULT '',
  KEY player_id (player_id, other_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8;

DROP TABLE IF EXISTS messages;
CREATE TABLE messages (
  id INT UNSIGNED NOT NULL AUTO_INCREMENT,
  match_id INT UNSIGNED NOT NULL DEFAULT 0,
  from_id INT UNSIGNED NOT NULL DEFAULT 0,
  to_id INT UNSIGNED NOT NULL DEFAULT 0,
  subject VARCHAR(80) NOT NULL DEFAULT '',
  body TEXT NOT NULL,
  is_read TINYINT(1) NOT NULL DEFAULT 0,
  sent_at DATETIME NOT NULL DEFAULT '0000-00-00 00:00:00',
  client_ref VARCHAR(40) NOT NULL DEFAULT '',
  PRIMARY KEY (id),
  KEY to_id (to_id, is_read)
) ENGINE=MyISAM DEFAULT CHARSET=latin1;

DROP TABLE IF EXISTS battles;
CREATE TABLE battles (
  id INT UNSIGNED NOT NULL AUTO_INCREMENT,
  match_id INT UNSIGNED NOT NULL DEFAULT 0,
  province_id INT UNSIGNED NOT NULL DEFAULT 0,
  attacker_id INT UNSIGNED NOT NULL DEFAULT 0,               -- unit
  defender_id INT UNSIGNED NOT NULL DEFAULT 0,               -- unit
  attacker_loss SMALLINT NOT NULL DEFAULT 0,
  defender_loss SMALLINT NOT NULL DEFAULT 0,
  report TEXT NOT NULL,                                      -- serialize()
  fought_at DATETIME NOT NULL DEFAULT '0000-00-00 00:00:00',
  client_ref VARCHAR(40) NOT NULL DEFAULT '',
  PRIMARY KEY (id),
  KEY match_id (match_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8;

-- for the admins. No key, nobody looks anything up here.
DROP TABLE IF EXISTS action_log;
CREATE TABLE action_log (
  match_id INT UNSIGNED NOT NULL DEFAULT 0,
  player_id INT UNSIGNED NOT NULL DEFAULT 0,
  action VARCHAR(20) NOT NULL DEFAULT '',
  client_ref VARCHAR(40) NOT NULL DEFAULT '',
  created_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP
) ENGINE=InnoDB DEFAULT CHARSET=utf8;

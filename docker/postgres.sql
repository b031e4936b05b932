CREATE TABLE customer (id BIGINT PRIMARY KEY, name TEXT NOT NULL, country TEXT);
INSERT INTO customer VALUES (1, 'Ada', 'GB'), (2, 'Blaise', 'FR'), (3, 'Carl', 'DE'), (4, 'Dido', NULL);

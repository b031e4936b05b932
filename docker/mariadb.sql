CREATE TABLE article (id BIGINT PRIMARY KEY, title VARCHAR(100) NOT NULL, price DECIMAL(10, 2));
INSERT INTO article VALUES (10, 'abacus', 19.90), (11, 'burette', 7.25), (12, 'compass', NULL);

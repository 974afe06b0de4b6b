INSERT INTO bench.bare (fields) VALUES (:fields)

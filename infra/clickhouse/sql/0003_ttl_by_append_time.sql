-- rollback: ALTER TABLE … MODIFY TTL toDateTime(<the column that 0001 names>) + the same INTERVAL, for each table below.

-- How long a row is kept counts from when Kafka took its record, not from when an agent says it saw something: an imported scan of last year, or
-- an agent whose clock is wrong, would otherwise lose its rows within a second.
ALTER TABLE sweeps MODIFY TTL toDateTime(recorded_at) + INTERVAL 90 DAY;
ALTER TABLE observations MODIFY TTL toDateTime(recorded_at) + INTERVAL 90 DAY;
ALTER TABLE changes MODIFY TTL toDateTime(recorded_at) + INTERVAL 400 DAY;
ALTER TABLE runs MODIFY TTL toDateTime(recorded_at) + INTERVAL 400 DAY;
ALTER TABLE rollups MODIFY TTL toDateTime(recorded_at) + INTERVAL 400 DAY;

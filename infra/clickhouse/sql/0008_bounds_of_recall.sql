-- rollback: DROP VIEW quarantined; recreate freshness_feed and not_looked_at_lately as in 0006; ALTER TABLE freshness DROP COLUMN low, DROP COLUMN high;
-- ALTER TABLE sweeps DROP COLUMN recall_low, DROP COLUMN recall_high, DROP COLUMN drops, DROP COLUMN quarantined, DROP COLUMN quarantine_reasons.

-- An estimate without its bounds invites too much trust: between recall_low and recall_high the true share lies in 95 of 100 looks. Hosts that answer on
-- everything are no findings; they stand here, with the reason.
ALTER TABLE sweeps ADD COLUMN IF NOT EXISTS recall_low Float64 AFTER recall;
ALTER TABLE sweeps ADD COLUMN IF NOT EXISTS recall_high Float64 DEFAULT 1 AFTER recall_low;
ALTER TABLE sweeps ADD COLUMN IF NOT EXISTS drops UInt64 AFTER recall_samples;
ALTER TABLE sweeps ADD COLUMN IF NOT EXISTS quarantined Array(String) CODEC(ZSTD(3)) AFTER drops;
ALTER TABLE sweeps ADD COLUMN IF NOT EXISTS quarantine_reasons Array(String) CODEC(ZSTD(3)) AFTER quarantined;
ALTER TABLE freshness ADD COLUMN IF NOT EXISTS low AggregateFunction(argMax, Float64, DateTime64(3, 'UTC'));
ALTER TABLE freshness ADD COLUMN IF NOT EXISTS high AggregateFunction(argMax, Float64, DateTime64(3, 'UTC'));

DROP VIEW IF EXISTS freshness_feed;

CREATE MATERIALIZED VIEW freshness_feed TO freshness AS
SELECT zone, subnet, max(finished_at) AS last_looked, argMaxState(recall, finished_at) AS recall, argMaxState(loss, finished_at) AS loss,
       argMaxState(toUInt32(recall_samples), finished_at) AS samples, argMaxState(toString(grant_id), finished_at) AS grant_id,
       argMaxState(recall_low, finished_at) AS low, argMaxState(recall_high, finished_at) AS high
FROM sweeps WHERE complete GROUP BY zone, subnet;

CREATE OR REPLACE VIEW not_looked_at_lately AS
SELECT zone, subnet, max(last_looked) AS last_looked, dateDiff('second', last_looked, now64(3)) AS seconds_ago, argMaxMerge(samples) AS samples,
       if(samples = 0, NULL, argMaxMerge(recall)) AS recall, if(samples = 0, NULL, argMaxMerge(low)) AS recall_low,
       if(samples = 0, NULL, argMaxMerge(high)) AS recall_high, if(samples = 0, NULL, argMaxMerge(loss)) AS loss
FROM freshness GROUP BY zone, subnet ORDER BY last_looked;

CREATE VIEW IF NOT EXISTS quarantined AS
SELECT finished_at, zone, address, reason, agent_id, unit_id, subnet
FROM sweeps FINAL ARRAY JOIN quarantined AS address, quarantine_reasons AS reason WHERE finished_at > now() - INTERVAL 7 DAY ORDER BY finished_at DESC;

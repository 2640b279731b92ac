-- rollback: recreate freshness_feed as in 0001 and not_looked_at_lately as in 0002, then ALTER TABLE freshness DROP COLUMN samples.

-- A recall of 1 that rests on no answer at all says nothing: the number of answers stands beside it, and without any the recall is unknown.
ALTER TABLE freshness ADD COLUMN IF NOT EXISTS samples AggregateFunction(argMax, UInt32, DateTime64(3, 'UTC'));

DROP VIEW IF EXISTS freshness_feed;

CREATE MATERIALIZED VIEW freshness_feed TO freshness AS
SELECT zone, subnet, max(finished_at) AS last_looked, argMaxState(recall, finished_at) AS recall, argMaxState(loss, finished_at) AS loss,
       argMaxState(toUInt32(recall_samples), finished_at) AS samples, argMaxState(toString(grant_id), finished_at) AS grant_id
FROM sweeps WHERE complete GROUP BY zone, subnet;

CREATE OR REPLACE VIEW not_looked_at_lately AS
SELECT zone, subnet, max(last_looked) AS last_looked, dateDiff('second', last_looked, now64(3)) AS seconds_ago, argMaxMerge(samples) AS samples,
       if(samples = 0, NULL, argMaxMerge(recall)) AS recall, if(samples = 0, NULL, argMaxMerge(loss)) AS loss
FROM freshness GROUP BY zone, subnet ORDER BY last_looked;

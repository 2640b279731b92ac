-- rollback: recreate stopped as in 0007, freshness_feed and not_looked_at_lately as in 0008; ALTER TABLE freshness DROP COLUMN looked.

-- Three hosts of a network are not the network: how many addresses the last look took in stands beside its recall.
ALTER TABLE freshness ADD COLUMN IF NOT EXISTS looked AggregateFunction(argMax, Float64, DateTime64(3, 'UTC'));

DROP VIEW IF EXISTS freshness_feed;

CREATE MATERIALIZED VIEW freshness_feed TO freshness AS
SELECT zone, subnet, max(finished_at) AS last_looked, argMaxState(recall, finished_at) AS recall, argMaxState(loss, finished_at) AS loss,
       argMaxState(toUInt32(recall_samples), finished_at) AS samples, argMaxState(toString(grant_id), finished_at) AS grant_id,
       argMaxState(recall_low, finished_at) AS low, argMaxState(recall_high, finished_at) AS high,
       argMaxState(arraySum(one -> if(position(one, '/') = 0, 1., exp2(if(position(one, ':') > 0, 128, 32) - toUInt8(splitByChar('/', one)[2]))), addresses),
                   finished_at) AS looked
FROM sweeps WHERE complete GROUP BY zone, subnet;

CREATE OR REPLACE VIEW not_looked_at_lately AS
SELECT zone, subnet, max(last_looked) AS last_looked, dateDiff('second', last_looked, now64(3)) AS seconds_ago, argMaxMerge(looked) AS addresses,
       argMaxMerge(samples) AS samples, if(samples = 0, NULL, argMaxMerge(recall)) AS recall, if(samples = 0, NULL, argMaxMerge(low)) AS recall_low,
       if(samples = 0, NULL, argMaxMerge(high)) AS recall_high, if(samples = 0, NULL, argMaxMerge(loss)) AS loss
FROM freshness GROUP BY zone, subnet ORDER BY last_looked;

-- What another scanner did not do is no unit of ours that ended early.
CREATE OR REPLACE VIEW stopped AS
SELECT finished_at, zone, campaign_id, run_id, unit_id, subnet, stopped_reason, packets_sent
FROM sweeps FINAL WHERE NOT complete AND NOT startsWith(engine, 'import:') AND finished_at > now() - INTERVAL 1 DAY ORDER BY finished_at DESC;

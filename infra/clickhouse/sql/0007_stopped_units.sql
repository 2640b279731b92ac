-- rollback: DROP VIEW stopped, and recreate in_work as in 0004; views hold no data.

-- What was ordered in the last day and did not come to an end yet: until it is empty, an absent finding means nothing.
CREATE OR REPLACE VIEW in_work AS
SELECT run_id, campaign_id, zone, cause, units, ended, units - ended AS waiting, started_at
FROM (SELECT run_id, campaign_id, zone, cause, units, started_at FROM runs FINAL WHERE units > 0 AND started_at > now() - INTERVAL 1 DAY) AS ordered
LEFT JOIN (SELECT run_id, uniqExact(unit_id) AS ended FROM sweeps WHERE finished_at > now() - INTERVAL 2 DAY GROUP BY run_id) AS done USING (run_id)
WHERE ended < units ORDER BY started_at;

-- What ended in the last day before all of it was looked at: frozen, revoked, expired, over its time. Of these, too, an absent finding means nothing.
CREATE VIEW IF NOT EXISTS stopped AS
SELECT finished_at, zone, campaign_id, run_id, unit_id, subnet, stopped_reason, packets_sent
FROM sweeps FINAL WHERE NOT complete AND finished_at > now() - INTERVAL 1 DAY ORDER BY finished_at DESC;

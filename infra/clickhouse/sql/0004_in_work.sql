-- rollback: DROP VIEW in_work; it holds no data.

-- What was ordered in the last day and is not looked at yet: until it is empty, an absent finding means nothing.
CREATE VIEW IF NOT EXISTS in_work AS
SELECT run_id, campaign_id, zone, cause, units, looked_at, units - looked_at AS waiting, started_at
FROM (SELECT run_id, campaign_id, zone, cause, units, started_at FROM runs FINAL WHERE units > 0 AND started_at > now() - INTERVAL 1 DAY) AS ordered
LEFT JOIN (SELECT run_id, uniqExact(unit_id) AS looked_at FROM sweeps WHERE finished_at > now() - INTERVAL 2 DAY GROUP BY run_id) AS done USING (run_id)
WHERE looked_at < units ORDER BY started_at;

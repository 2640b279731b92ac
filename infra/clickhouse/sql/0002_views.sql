-- rollback: DROP VIEW of every view below; views hold no data.

-- The questions that analysts ask first. Each view reads with FINAL, so that a row written twice is seen once.

CREATE VIEW IF NOT EXISTS open_now AS
SELECT zone, address, port, transport, service, product, version, status, tls_version, certificate_sha256, certificate_subject, certificate_not_after, facts, first_seen, last_seen
FROM services FINAL WHERE status != 'closed' ORDER BY zone, ip, port;

CREATE VIEW IF NOT EXISTS changed_today AS
SELECT observed_at, zone, address, port, kind, summary FROM changes FINAL WHERE observed_at >= now() - INTERVAL 1 DAY ORDER BY observed_at DESC;

CREATE VIEW IF NOT EXISTS worst_first AS
SELECT risk, rank, status, title, places, why, action, owner, rule, rationale, explanation, first_seen, finding_id
FROM findings FINAL WHERE status = 'open' ORDER BY risk DESC, title, finding_id;

CREATE VIEW IF NOT EXISTS not_looked_at_lately AS
SELECT zone, subnet, max(last_looked) AS last_looked, dateDiff('second', last_looked, now64(3)) AS seconds_ago,
       argMaxMerge(recall) AS recall, argMaxMerge(loss) AS loss
FROM freshness GROUP BY zone, subnet ORDER BY last_looked;

CREATE VIEW IF NOT EXISTS refused AS
SELECT started_at, zone, request_id, campaign_id, target, reason
FROM runs FINAL ARRAY JOIN refused_targets AS target, refused_reasons AS reason ORDER BY started_at DESC;

CREATE VIEW IF NOT EXISTS watermarks AS
SELECT topic, min(complete_to) AS complete_to, sum(next_offset) AS records FROM watermark_parts FINAL GROUP BY topic ORDER BY topic;

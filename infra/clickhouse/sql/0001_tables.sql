-- rollback: DROP TABLE of every table below; everything in them can be written again from the topics that are still retained.

-- Conventions. Ids and addresses are text as in the topics; `ip` is the same address as IPv6 for range queries. LowCardinality where a column has few
-- values (zones, kinds, products): a dictionary instead of repeated text. DateTime64(3) since the pipeline keeps milliseconds. ZSTD on long text,
-- Delta on ever-growing times. ReplacingMergeTree dedupes on ORDER BY, keeping the highest version: read with FINAL or through the views.

CREATE TABLE IF NOT EXISTS sweeps (
    unit_id String, run_id String, campaign_id LowCardinality(String), zone LowCardinality(String), subnet LowCardinality(String),
    grant_id LowCardinality(String), agent_id LowCardinality(String), attempt UInt32, engine LowCardinality(String), transport LowCardinality(String),
    addresses Array(String) CODEC(ZSTD(3)), ports String CODEC(ZSTD(3)), answered UInt32, complete Bool, stopped_reason String,
    packets_sent UInt64, loss Float64, recall Float64, recall_samples UInt32,
    started_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD), finished_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD), recorded_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD)
) ENGINE = ReplacingMergeTree PARTITION BY toYYYYMM(finished_at) ORDER BY (zone, subnet, unit_id, transport)
TTL toDateTime(finished_at) + INTERVAL 90 DAY; -- what was probed is evidence for one quarter

CREATE TABLE IF NOT EXISTS observations (
    observation_id String, unit_id String, run_id String, zone LowCardinality(String), subnet LowCardinality(String), address String,
    ip IPv6 MATERIALIZED toIPv6(address), port UInt16, transport LowCardinality(String), grant_id LowCardinality(String), agent_id LowCardinality(String),
    attempt UInt32, names Array(String), service LowCardinality(String), product LowCardinality(String), version LowCardinality(String),
    cpes Array(LowCardinality(String)), facts Map(LowCardinality(String), String), tls_version LowCardinality(String), tls_outdated Array(LowCardinality(String)),
    certificate_sha256 String, certificate_subject String CODEC(ZSTD(3)), certificate_not_after Nullable(DateTime64(3, 'UTC')), http_status UInt16, http_title String CODEC(ZSTD(3)),
    banner String CODEC(ZSTD(3)), evidence Array(LowCardinality(String)),
    observed_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD), recorded_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD)
) ENGINE = ReplacingMergeTree PARTITION BY toYYYYMM(observed_at) ORDER BY (zone, address, transport, port, observation_id)
TTL toDateTime(observed_at) + INTERVAL 90 DAY; -- the current state is in `services`; this is history

CREATE TABLE IF NOT EXISTS assets (
    zone LowCardinality(String), address String, ip IPv6 MATERIALIZED toIPv6(address), subnet LowCardinality(String), revision UInt64, up Bool,
    names Array(String), open_ports Array(UInt16), path Array(String),
    first_seen DateTime64(3, 'UTC'), last_seen DateTime64(3, 'UTC'), last_looked DateTime64(3, 'UTC'), recorded_at DateTime64(3, 'UTC')
) ENGINE = ReplacingMergeTree(revision) ORDER BY (zone, address); -- no TTL: a current state has no age

CREATE TABLE IF NOT EXISTS services (
    zone LowCardinality(String), address String, ip IPv6 MATERIALIZED toIPv6(address), port UInt16, transport LowCardinality(String), revision UInt64,
    status LowCardinality(String), flapping Bool, service LowCardinality(String), product LowCardinality(String), version LowCardinality(String),
    cpes Array(LowCardinality(String)), facts Map(LowCardinality(String), String), tls_version LowCardinality(String), tls_outdated Array(LowCardinality(String)),
    certificate_sha256 String, certificate_subject String CODEC(ZSTD(3)), certificate_not_after Nullable(DateTime64(3, 'UTC')), http_status UInt16, http_title String CODEC(ZSTD(3)),
    first_seen DateTime64(3, 'UTC'), last_seen DateTime64(3, 'UTC'), recorded_at DateTime64(3, 'UTC')
) ENGINE = ReplacingMergeTree(revision) ORDER BY (zone, address, transport, port);

CREATE TABLE IF NOT EXISTS changes (
    change_id String, kind LowCardinality(String), zone LowCardinality(String), address String, ip IPv6 MATERIALIZED toIPv6(address), subnet LowCardinality(String),
    revision UInt64, port UInt16, transport LowCardinality(String), summary String CODEC(ZSTD(3)),
    service_before LowCardinality(String), service_after LowCardinality(String), product_before LowCardinality(String), product_after LowCardinality(String),
    version_before LowCardinality(String), version_after LowCardinality(String), certificate_sha256_before String, certificate_sha256_after String,
    evidence_ids Array(String), observed_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD), recorded_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD)
) ENGINE = ReplacingMergeTree PARTITION BY toYYYYMM(observed_at) ORDER BY (zone, address, change_id)
TTL toDateTime(observed_at) + INTERVAL 400 DAY; -- year on year comparisons need a year and a month

CREATE TABLE IF NOT EXISTS exposures (
    exposure_id String, finding_id String, event LowCardinality(String), revision UInt64, rule LowCardinality(String), subject String, title LowCardinality(String),
    zone LowCardinality(String), address String, ip IPv6 MATERIALIZED toIPv6(address), port UInt16, transport LowCardinality(String),
    base_risk Float64, floor Float64, ceiling Float64, rules Array(String) CODEC(ZSTD(3)), cves Array(LowCardinality(String)),
    owner LowCardinality(String), criticality LowCardinality(String), evidence_ids Array(String), evidence String CODEC(ZSTD(3)),
    observed_at DateTime64(3, 'UTC'), recorded_at DateTime64(3, 'UTC')
) ENGINE = ReplacingMergeTree(revision) ORDER BY (zone, finding_id, exposure_id);

CREATE TABLE IF NOT EXISTS findings (
    finding_id String, revision UInt64, status LowCardinality(String), zone LowCardinality(String), rule LowCardinality(String), subject String,
    title LowCardinality(String), why String CODEC(ZSTD(3)), action String CODEC(ZSTD(3)), places Array(String), addresses Array(String),
    base_risk Float64, floor Float64, ceiling Float64, risk Float64, rank Enum8('critical' = 5, 'high' = 4, 'medium' = 3, 'low' = 2, 'info' = 1),
    rationale String CODEC(ZSTD(3)), rules Array(String) CODEC(ZSTD(3)), cves Array(LowCardinality(String)), owner LowCardinality(String),
    criticality LowCardinality(String), tags Array(LowCardinality(String)), evidence_ids Array(String), decision LowCardinality(String), decided_by LowCardinality(String),
    decision_reason String, review LowCardinality(String), review_model LowCardinality(String), review_prompt String, explanation String CODEC(ZSTD(3)), reopened UInt32,
    first_seen DateTime64(3, 'UTC'), changed_at DateTime64(3, 'UTC'), resolved_at Nullable(DateTime64(3, 'UTC')), recorded_at DateTime64(3, 'UTC')
) ENGINE = ReplacingMergeTree(revision) ORDER BY (zone, finding_id);

CREATE TABLE IF NOT EXISTS runs (
    run_id String, request_id String, campaign_id LowCardinality(String), zone LowCardinality(String), cause LowCardinality(String), units UInt32, addresses UInt64,
    ports UInt32, excluded UInt64, refused_targets Array(String), refused_reasons Array(String), started_at DateTime64(3, 'UTC'), recorded_at DateTime64(3, 'UTC')
) ENGINE = ReplacingMergeTree ORDER BY (zone, run_id) TTL toDateTime(started_at) + INTERVAL 400 DAY;

CREATE TABLE IF NOT EXISTS agents (
    agent_id String, zone LowCardinality(String), state LowCardinality(String), version LowCardinality(String), engine LowCardinality(String), capabilities Array(LowCardinality(String)),
    partitions Array(UInt16), units_running UInt32, units_done UInt64, packets_sent UInt64, packets_refused UInt64, control_packets UInt64, drops UInt64,
    clock_offset_ms Int64, started_at DateTime64(3, 'UTC'), at DateTime64(3, 'UTC'), recorded_at DateTime64(3, 'UTC')
) ENGINE = ReplacingMergeTree(recorded_at) ORDER BY agent_id; -- a heartbeat has no revision; the log's own time orders them

CREATE TABLE IF NOT EXISTS rollups (
    name LowCardinality(String), zone LowCardinality(String), kind LowCardinality(String), window_start DateTime64(3, 'UTC'), window_seconds UInt32,
    count UInt64, value Float64, recorded_at DateTime64(3, 'UTC')
) ENGINE = ReplacingMergeTree(count) ORDER BY (name, zone, kind, window_start) TTL toDateTime(window_start) + INTERVAL 400 DAY;

CREATE TABLE IF NOT EXISTS audit (
    audit_id String, actor LowCardinality(String), action LowCardinality(String), subject String, detail String CODEC(ZSTD(3)), origin String,
    at DateTime64(3, 'UTC'), recorded_at DateTime64(3, 'UTC')
) ENGINE = ReplacingMergeTree ORDER BY (at, audit_id); -- no TTL: who allowed what is kept

-- Up to when each topic's rows are complete: written after each insert, and while a topic is quiet.
CREATE TABLE IF NOT EXISTS watermark_parts (
    topic LowCardinality(String), partition UInt16, next_offset UInt64, complete_to DateTime64(3, 'UTC')
) ENGINE = ReplacingMergeTree(complete_to) ORDER BY (topic, partition);

-- When each subnet was last looked at and how well; fed by every sweep. Maxima, so that a repeated row changes nothing.
CREATE TABLE IF NOT EXISTS freshness (
    zone LowCardinality(String), subnet LowCardinality(String), last_looked SimpleAggregateFunction(max, DateTime64(3, 'UTC')),
    recall AggregateFunction(argMax, Float64, DateTime64(3, 'UTC')), loss AggregateFunction(argMax, Float64, DateTime64(3, 'UTC')),
    grant_id AggregateFunction(argMax, String, DateTime64(3, 'UTC'))
) ENGINE = AggregatingMergeTree ORDER BY (zone, subnet);

CREATE MATERIALIZED VIEW IF NOT EXISTS freshness_feed TO freshness AS
SELECT zone, subnet, max(finished_at) AS last_looked, argMaxState(recall, finished_at) AS recall, argMaxState(loss, finished_at) AS loss,
       argMaxState(toString(grant_id), finished_at) AS grant_id
FROM sweeps WHERE complete GROUP BY zone, subnet;

-- rollback: DROP TABLE touches; it can be written again from the topic `touches` as far back as that is retained.

-- What was sent: `packets` to each address from first_ip to last_ip, to all `ports` together (to some of them where not every_port). A range never leaves its subnet, so that the question
-- for one address reads the rows of that subnet only, in the order of time. Addresses are kept as IPv6, IPv4 in it as ::ffff:a.b.c.d.
CREATE TABLE IF NOT EXISTS touches (
    record_id String, number UInt32, first_ip IPv6, last_ip IPv6, kind LowCardinality(String), ports String CODEC(ZSTD(3)), every_port Bool, packets UInt64, exact Bool,
    unit_id String, run_id String, campaign_id LowCardinality(String), zone LowCardinality(String), subnet LowCardinality(String),
    grant_id LowCardinality(String), grant_revision UInt64, issued_by LowCardinality(String), agent_id LowCardinality(String), attempt UInt32,
    first_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD), last_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD), recorded_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD)
) ENGINE = ReplacingMergeTree PARTITION BY toYYYYMM(recorded_at) ORDER BY (subnet, first_at, record_id, number)
TTL toDateTime(recorded_at) + INTERVAL 400 DAY; -- who asks "was it you?" may come late

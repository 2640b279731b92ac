-- rollback: ALTER TABLE findings DROP COLUMN decision_until, DROP COLUMN assignee, DROP COLUMN comment, DROP COLUMN comment_by; recreate worst_first as in 0002.

-- A remark or an assignment used to take the place of the decision; each has columns of its own now.
ALTER TABLE findings ADD COLUMN IF NOT EXISTS decision_until Nullable(DateTime64(3, 'UTC')) AFTER decision_reason;
ALTER TABLE findings ADD COLUMN IF NOT EXISTS assignee LowCardinality(String) AFTER decision_until;
ALTER TABLE findings ADD COLUMN IF NOT EXISTS comment String CODEC(ZSTD(3)) AFTER assignee;
ALTER TABLE findings ADD COLUMN IF NOT EXISTS comment_by LowCardinality(String) AFTER comment;

CREATE OR REPLACE VIEW worst_first AS
SELECT risk, rank, status, title, places, why, action, owner, assignee, comment, rule, rationale, explanation, first_seen, finding_id
FROM findings FINAL WHERE status = 'open' ORDER BY risk DESC, title, finding_id;

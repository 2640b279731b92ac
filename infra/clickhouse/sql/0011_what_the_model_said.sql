-- rollback: ALTER TABLE findings DROP COLUMN model_action, DROP COLUMN model_evidence_ids

-- What the model would do, and the evidence that its explanation relies on. `action` and `evidence_ids` stay the rules' word.
ALTER TABLE findings ADD COLUMN IF NOT EXISTS model_action String DEFAULT '' CODEC(ZSTD(3));
ALTER TABLE findings ADD COLUMN IF NOT EXISTS model_evidence_ids Array(String) DEFAULT [];

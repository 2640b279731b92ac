-- rollback: ALTER TABLE findings DROP COLUMN baseline

-- Whether the finding was there already when its places were looked at for the first time, and is not known to be exploited.
ALTER TABLE findings ADD COLUMN IF NOT EXISTS baseline Bool DEFAULT false;

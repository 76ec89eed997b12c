-- The journal of one broker instance; see journal.py for what each row means.
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE orders (
    key TEXT PRIMARY KEY,
    order_id TEXT NOT NULL,
    account_id TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    state TEXT NOT NULL,
    certainty TEXT,
    reason TEXT,
    words TEXT,
    cancel_wanted INTEGER NOT NULL DEFAULT 0,
    final INTEGER NOT NULL DEFAULT 0,
    settled INTEGER NOT NULL DEFAULT 0,
    logged TEXT NOT NULL DEFAULT '{}',
    body TEXT NOT NULL,
    created_ns INTEGER NOT NULL,
    updated_ns INTEGER NOT NULL
) STRICT;
CREATE INDEX orders_unsettled ON orders (state, created_ns) WHERE settled = 0;
CREATE INDEX orders_created ON orders (created_ns);
CREATE INDEX orders_twins ON orders (fingerprint) WHERE settled = 0;
CREATE TABLE names (
    account_id TEXT NOT NULL, name TEXT NOT NULL, kind INTEGER NOT NULL, key TEXT NOT NULL,
    PRIMARY KEY (account_id, name, kind)
) STRICT, WITHOUT ROWID;
CREATE TABLE attempts (
    key TEXT NOT NULL,
    n INTEGER NOT NULL,
    kind TEXT NOT NULL,
    token TEXT,
    t0_ns INTEGER NOT NULL,
    not_after_ns INTEGER,
    owner TEXT NOT NULL,
    body TEXT NOT NULL,
    outcome TEXT,
    cause TEXT,
    PRIMARY KEY (key, n)
) STRICT, WITHOUT ROWID;
CREATE INDEX attempts_t0 ON attempts (t0_ns);
CREATE INDEX attempts_changes ON attempts (key) WHERE kind != 'new' AND outcome IS NULL;
CREATE TABLE log (
    "offset" INTEGER PRIMARY KEY,
    seq INTEGER NOT NULL,
    kind TEXT NOT NULL,
    account_id TEXT,
    fill_id TEXT,
    broker_order_id TEXT,
    body TEXT NOT NULL,
    fee_open INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE UNIQUE INDEX log_fills ON log (account_id, fill_id) WHERE fill_id IS NOT NULL;
CREATE INDEX log_seq ON log (seq);
CREATE INDEX log_unpaid ON log ("offset") WHERE fee_open = 1;
CREATE INDEX log_order ON log (broker_order_id) WHERE fill_id IS NOT NULL;
CREATE TABLE consumers (
    name TEXT NOT NULL, stream TEXT NOT NULL, "offset" INTEGER NOT NULL, PRIMARY KEY (name, stream)
) STRICT, WITHOUT ROWID;
-- Executions that wait for the order they may belong to.
CREATE TABLE parked (
    account_id TEXT NOT NULL, fill_id TEXT NOT NULL, until_ns INTEGER NOT NULL, body TEXT NOT NULL,
    PRIMARY KEY (account_id, fill_id)
) STRICT, WITHOUT ROWID;
-- Executions that were taken back; one that was not logged by then never is.
CREATE TABLE voided (
    account_id TEXT NOT NULL, fill_id TEXT NOT NULL, PRIMARY KEY (account_id, fill_id)
) STRICT, WITHOUT ROWID;
-- Fees that came before their fill.
CREATE TABLE early_fees (
    account_id TEXT NOT NULL, fill_id TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (account_id, fill_id)
) STRICT, WITHOUT ROWID;

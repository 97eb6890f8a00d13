-- Parents that are stored while some of what waited for them is parked still: it is released in
-- slices. A parent is noted in the transaction that stores it, and leaves with its last event.
CREATE TABLE pending_releases (
    parent_id TEXT NOT NULL,
    parent TEXT NOT NULL CHECK (parent IN ('receipt', 'session')),
    PRIMARY KEY (parent_id, parent)
) WITHOUT ROWID;

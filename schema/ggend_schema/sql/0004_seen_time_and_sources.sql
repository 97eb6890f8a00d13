-- What is told by seen time, and importers that are known by content and user.

-- Seen time: seconds that daemons have run on this database, by a clock that nobody can set
-- (CLOCK_BOOTTIME). What expires is decided by it, not by the distance of two wall clocks
-- (docs/adr/0024).
CREATE TABLE seen_time (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    seen_s INTEGER NOT NULL,
    -- When that was saved, to tell a clock that was set: wall clock, boot, and time since the boot.
    wall_ns INTEGER NOT NULL,
    boot_id TEXT NOT NULL,
    boot_ns INTEGER NOT NULL
);
INSERT INTO seen_time (id, seen_s, wall_ns, boot_id, boot_ns) VALUES (1, 0, 0, '', 0);

-- The seen time when a producer was last heard of, and when an event was parked.
ALTER TABLE producers ADD COLUMN seen_s INTEGER NOT NULL DEFAULT 0;
ALTER TABLE parked_events ADD COLUMN seen_s INTEGER NOT NULL DEFAULT 0;

-- The id that a permanent producer says, which is made from content. Each user has an account of
-- his own for it, so that nobody can take it first; `producer` is random then.
ALTER TABLE producers ADD COLUMN source BLOB;
UPDATE producers SET source = producer WHERE permanent = 1;
CREATE UNIQUE INDEX idx_producers_source ON producers (source, uid) WHERE source IS NOT NULL;

-- Producers that are done or were silent for long: how far they came, and what they left in the
-- folded total beside what was stored. What one of them sends again is recognised.
CREATE TABLE forgotten_producers (
    producer BLOB PRIMARY KEY CHECK (length(producer) = 16),
    uid INTEGER NOT NULL,
    account_id INTEGER NOT NULL,
    last_sequence INTEGER NOT NULL,
    duplicate INTEGER NOT NULL,
    superseded INTEGER NOT NULL,
    rejected INTEGER NOT NULL,
    lost INTEGER NOT NULL,
    seen_s INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX idx_forgotten_producers_seen ON forgotten_producers (seen_s);

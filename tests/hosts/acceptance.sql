-- What any host must be able to do. Site ids are given, so that every host prints the same.
CREATE TABLE todo (id INTEGER PRIMARY KEY NOT NULL, title TEXT, done INT DEFAULT 0, size REAL)
CREATE TABLE tag (name TEXT COLLATE NOCASE NOT NULL, todo INT NOT NULL, color BLOB, PRIMARY KEY (todo, name)) WITHOUT ROWID
SELECT crsql_as_crr('todo')
SELECT crsql_as_crr('tag')
SELECT hex(crsql_new_site(x'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'))
.use b
CREATE TABLE todo (id INTEGER PRIMARY KEY NOT NULL, title TEXT, done INT DEFAULT 0, size REAL)
CREATE TABLE tag (name TEXT COLLATE NOCASE NOT NULL, todo INT NOT NULL, color BLOB, PRIMARY KEY (todo, name)) WITHOUT ROWID
SELECT crsql_as_crr('todo')
SELECT crsql_as_crr('tag')
SELECT hex(crsql_new_site(x'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb'))
-- Local writes, with everything that a statement or a savepoint can do to them.
.use a
INSERT INTO todo VALUES (1, 'milk', 0, 1.5), (2, 'it''s ''quoted'' and ünïcode 🦀', 1, NULL), (3, 'gone soon', 0, 0.1)
INSERT INTO tag VALUES ('Red', 1, x'ff0000'), ('blue', 1, NULL)
BEGIN
UPDATE todo SET done = 1 WHERE id = 1
SAVEPOINT s
DELETE FROM todo
ROLLBACK TO s
RELEASE s
INSERT INTO todo (id, title) VALUES (4, 'four')
COMMIT
BEGIN
UPDATE todo SET title = 'never'
ROLLBACK
INSERT OR REPLACE INTO tag VALUES ('BLUE', 1, x'0000ff')
INSERT INTO todo (id, title) VALUES (1, 'oat milk') ON CONFLICT (id) DO UPDATE SET title = excluded.title, done = done + 1
INSERT OR IGNORE INTO todo (id, title) VALUES (1, 'ignored')
UPDATE todo SET id = 30 WHERE id = 3
DELETE FROM todo WHERE id = 30
.fails INSERT INTO todo (id, title) VALUES (9, 'nine'), (1, 'taken')
SELECT * FROM todo ORDER BY id
SELECT "table", cid, quote(val), col_version, db_version, cl, seq FROM crsql_changes ORDER BY db_version, seq
SELECT count(*) FROM crsql_changes WHERE "table" = 'todo' AND site_id = crsql_site_id() AND db_version > 2
-- There and back as changesets, with a conflict in the middle.
.keep SELECT crsql_changeset()
.use b
SELECT crsql_apply(?1)
.same SELECT crsql_digest()
.same SELECT group_concat(title, ',') FROM (SELECT title FROM todo ORDER BY id)
UPDATE todo SET title = 'from b', size = 2.25 WHERE id = 1
DELETE FROM tag WHERE name = 'red'
INSERT INTO todo VALUES (5, 'five', 0, 1e300)
.use a
UPDATE todo SET title = 'from a' WHERE id = 1
.keep SELECT crsql_version_vector()
.use b
.keep SELECT crsql_changeset(?1)
.use a
SELECT crsql_apply(?1)
.fails SELECT crsql_apply(x'00')
-- Single rows of crsql_changes.
.copy SELECT "table", pk, cid, val, col_version, db_version, site_id, cl, seq, site_version FROM crsql_changes WHERE site_id = crsql_site_id()
.same SELECT crsql_digest()
.same SELECT count(*), sum(col_version), sum(cl) FROM crsql_changes
.same SELECT id, title, done, size FROM todo WHERE id = 1
-- A schema that changes.
SELECT crsql_begin_alter('todo')
ALTER TABLE todo ADD COLUMN due TEXT DEFAULT 'soon'
SELECT crsql_commit_alter('todo')
UPDATE todo SET due = 'today' WHERE id = 1
.keep SELECT crsql_changeset()
.use b
SELECT crsql_apply(?1)
SELECT crsql_begin_alter('todo')
ALTER TABLE todo ADD COLUMN due TEXT DEFAULT 'soon'
SELECT crsql_commit_alter('todo')
.same SELECT group_concat(due, ',') FROM (SELECT due FROM todo ORDER BY id)
.same SELECT crsql_digest()
.reopen
UPDATE todo SET done = 7 WHERE id = 5
.keep SELECT crsql_changeset()
.use a
SELECT crsql_apply(?1)
.same SELECT crsql_digest()
.same SELECT crsql_doctor()
.expect []
.same PRAGMA integrity_check
.expect ok

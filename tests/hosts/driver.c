/* One program with one SQLite compiled in, for the matrix of versions and options (see README.md).
 *
 * `driver EXTENSION SCRIPT DIRECTORY [PRAGMA...]` opens the databases a and b in DIRECTORY, gives each the pragmas, loads
 * the extension into both and runs SCRIPT, one statement a line, on a first. Rows are printed with their values joined by
 * `|`. ?1 is bound to what `.keep` kept. Lines that begin with a point are commands:
 *
 *   .use NAME      the lines that follow run on this database
 *   .keep SQL      keeps the first value of the first row for ?1
 *   .same SQL      runs on both databases; the answers must be equal
 *   .expect VALUE  the last value that was printed must be this one
 *   .fails SQL     must be an error; prints its message
 *   .copy SQL      reads rows here and inserts them into crsql_changes of the other database
 *   .reopen        closes both databases with plain sqlite3_close, opens them again
 */
#include "sqlite3.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static sqlite3 *databases[2];
static const char *const names[2] = {"a", "b"};
static int current;
static sqlite3_value *kept;
static char last[1 << 16];
static int line_number;

static void fail(const char *what, const char *why) {
  fflush(stdout);
  fprintf(stderr, "line %d: %s: %s\n", line_number, what, why);
  exit(1);
}

static sqlite3_stmt *prepare(sqlite3 *db, const char *sql) {
  sqlite3_stmt *statement = 0;
  if (sqlite3_prepare_v2(db, sql, -1, &statement, 0) != SQLITE_OK) fail(sql, sqlite3_errmsg(db));
  if (statement && kept && sqlite3_bind_parameter_count(statement) == 1) sqlite3_bind_value(statement, 1, kept);
  return statement;
}

/* Runs one statement; writes its rows into last, the newest only as far as there is room. */
static void query(sqlite3 *db, const char *sql, int aloud) {
  sqlite3_stmt *statement = prepare(db, sql);
  int rc;
  while ((rc = sqlite3_step(statement)) == SQLITE_ROW) {
    size_t used = 0;
    for (int i = 0; i < sqlite3_column_count(statement) && used < sizeof last - 1; i++) {
      const char *text = (const char *)sqlite3_column_text(statement, i);
      int written = snprintf(last + used, sizeof last - used, "%s%s", i ? "|" : "", text ? text : "NULL");
      used += written < 0 ? 0 : (size_t)written;
    }
    if (aloud) printf("%s\n", last);
  }
  if (rc != SQLITE_DONE) fail(sql, sqlite3_errmsg(db));
  if (sqlite3_finalize(statement) != SQLITE_OK) fail(sql, sqlite3_errmsg(db));
}

static void keep(const char *sql) {
  sqlite3_stmt *statement = prepare(databases[current], sql);
  if (sqlite3_step(statement) != SQLITE_ROW) fail(sql, sqlite3_errmsg(databases[current]));
  sqlite3_value *value = sqlite3_value_dup(sqlite3_column_value(statement, 0));
  sqlite3_value_free(kept);
  kept = value;
  sqlite3_finalize(statement);
}

static void same(const char *sql) {
  static char first[sizeof last];
  query(databases[0], sql, 1);
  memcpy(first, last, sizeof last);
  query(databases[1], sql, 0);
  if (strcmp(first, last)) fail(sql, last);
}

static void fails(const char *sql) {
  sqlite3 *db = databases[current];
  char *message = 0;
  if (sqlite3_exec(db, sql, 0, 0, &message) == SQLITE_OK) fail(sql, "is no error");
  printf("error: %s\n", message ? message : "without a message");
  sqlite3_free(message);
}

static void copy(const char *sql) {
  static const char insert[] =
      "INSERT INTO crsql_changes (\"table\", pk, cid, val, col_version, db_version, site_id, cl, seq, site_version) "
      "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
  sqlite3 *other = databases[1 - current];
  sqlite3_stmt *read = prepare(databases[current], sql), *write = prepare(other, insert);
  int rows = 0, rc;
  while ((rc = sqlite3_step(read)) == SQLITE_ROW) {
    for (int i = 0; i < sqlite3_column_count(read); i++) sqlite3_bind_value(write, i + 1, sqlite3_column_value(read, i));
    if (sqlite3_step(write) != SQLITE_DONE) fail(insert, sqlite3_errmsg(other));
    sqlite3_reset(write);
    rows++;
  }
  if (rc != SQLITE_DONE) fail(sql, sqlite3_errmsg(databases[current]));
  sqlite3_finalize(read), sqlite3_finalize(write);
  printf("%d rows copied\n", rows);
}

static void open_both(int argc, char **argv) {
  char path[4096];
  char *message = 0;
  int on = 0;
  for (int i = 0; i < 2; i++) {
    snprintf(path, sizeof path, "%s/%s.db", argv[3], names[i]);
    if (sqlite3_open(path, &databases[i])) fail(path, sqlite3_errmsg(databases[i]));
    for (int j = 4; j < argc; j++) query(databases[i], argv[j], 0);
    sqlite3_db_config(databases[i], SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 1, &on);
    if (sqlite3_load_extension(databases[i], argv[1], 0, &message)) fail("load", message ? message : "no message");
  }
}

static void close_both(void) {
  for (int i = 0; i < 2; i++) {
    int rc = sqlite3_close(databases[i]);
    if (rc != SQLITE_OK) fail("sqlite3_close", sqlite3_errstr(rc));
  }
}

static const char *argument(const char *line, const char *command) {
  size_t length = strlen(command);
  return strncmp(line, command, length) ? 0 : line + length + (line[length] == ' ');
}

int main(int argc, char **argv) {
  static char line[1 << 16];
  const char *rest;
  if (argc < 4) return fprintf(stderr, "usage: driver EXTENSION SCRIPT DIRECTORY [PRAGMA...]\n"), 2;
  FILE *script = fopen(argv[2], "r");
  if (!script) return perror(argv[2]), 2;
  if (sqlite3_initialize() != SQLITE_OK) fail("sqlite3_initialize", "failed");
  open_both(argc, argv);
  while (fgets(line, sizeof line, script)) {
    line_number++;
    line[strcspn(line, "\n")] = 0;
    if (!line[0] || !strncmp(line, "--", 2)) continue;
    if ((rest = argument(line, ".use"))) current = rest[0] == 'b';
    else if ((rest = argument(line, ".keep"))) keep(rest);
    else if ((rest = argument(line, ".same"))) same(rest);
    else if ((rest = argument(line, ".fails"))) fails(rest);
    else if ((rest = argument(line, ".copy"))) copy(rest);
    else if ((rest = argument(line, ".expect"))) { if (strcmp(rest, last)) fail(line, last); }
    else if ((rest = argument(line, ".reopen"))) close_both(), open_both(argc, argv);
    else query(databases[current], line, 1);
  }
  fclose(script);
  sqlite3_value_free(kept);
  close_both();
  sqlite3_shutdown();
  return 0;
}

/* A driver in C (see README.md). It closes with plain sqlite3_close, which must answer SQLITE_OK.
 *
 * As `host EXTENSION ENTRY --old` it calls the entry point as a SQLite older than the extension supports would, and
 * prints the refusal. */
#include <dlfcn.h>
#include <sqlite3ext.h>
#include <stdio.h>
#include <string.h>

/* sqlite3ext.h turns API names into members of this table; the driver itself calls the library. */
static const sqlite3_api_routines *sqlite3_api;

typedef int (*entry_point)(sqlite3 *, char **, const sqlite3_api_routines *);

static int take_api(sqlite3 *db, char **error, const sqlite3_api_routines *api) {
  (void)db, (void)error;
  sqlite3_api = api;
  return SQLITE_OK;
}

#undef sqlite3_auto_extension
#undef sqlite3_open
extern int sqlite3_auto_extension(void (*)(void));
extern int sqlite3_open(const char *, sqlite3 **);

static int old_version(void) { return 3034000; }

static int refuse_old(sqlite3 *db, const char *extension, const char *entry) {
  static sqlite3_api_routines old;
  char *message = 0;
  void *library = dlopen(extension, RTLD_NOW);
  entry_point load = library ? (entry_point)dlsym(library, entry) : 0;
  if (!load) return fprintf(stderr, "%s\n", dlerror()), 1;
  old = *sqlite3_api;
  old.libversion_number = old_version;
  if (load(db, &message, &old) == SQLITE_OK) return fprintf(stderr, "an old host was accepted\n"), 1;
  printf("%s\n", message ? message : "");
  return 0;
}

static int print_row(void *unused, int count, char **values, char **names) {
  (void)unused, (void)names;
  for (int i = 0; i < count; i++) printf("%s%s", i ? "|" : "", values[i] ? values[i] : "NULL");
  printf("\n");
  return 0;
}

int main(int argc, char **argv) {
  static char line[1 << 24];
  sqlite3 *db;
  char *message = 0;
  int rc;
  if (argc != 4) return fprintf(stderr, "usage: host EXTENSION ENTRY DATABASE\n"), 2;
  sqlite3_auto_extension((void (*)(void))take_api);
  int old = strcmp(argv[3], "--old") == 0;
  if (sqlite3_open(old ? ":memory:" : argv[3], &db)) return fprintf(stderr, "cannot open %s\n", argv[3]), 1;
  if (old) return refuse_old(db, argv[1], argv[2]);
  sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 1, &rc);
  if (sqlite3_load_extension(db, argv[1], argv[2], &message)) return fprintf(stderr, "%s\n", message), 1;
  while (fgets(line, sizeof line, stdin)) {
    if (sqlite3_exec(db, line, print_row, 0, &message)) return fprintf(stderr, "%s\n", message), 1;
  }
  rc = sqlite3_close(db);
  if (rc != SQLITE_OK) return fprintf(stderr, "sqlite3_close answered %d\n", rc), 1;
  return 0;
}

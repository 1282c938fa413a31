// A driver for Node's own node:sqlite (see README.md).
//
// node:sqlite takes no entry point: SQLite derives it from the file's name, so the file is copied to the name that
// gives the wanted one.
import { copyFileSync, readFileSync } from 'node:fs';
import { dirname, extname, join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';

const [extension, entry, database] = process.argv.slice(2);
const name = entry.replace(/^sqlite3_/, '').replace(/_init$/, '');
const copy = join(dirname(database), `lib${name}${extname(extension)}`);
copyFileSync(extension, copy);

const connection = new DatabaseSync(database, { allowExtension: true });
connection.loadExtension(copy);
connection.enableLoadExtension(false);

for (const statement of readFileSync(0, 'utf8').split('\n').filter(Boolean)) {
  for (const row of connection.prepare(statement).all()) {
    console.log(Object.values(row).map((value) => (value === null ? 'NULL' : String(value))).join('|'));
  }
}
connection.close();

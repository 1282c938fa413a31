// A driver for the npm package better-sqlite3 (see README.md).
const { readFileSync } = require('node:fs');
const Database = require('better-sqlite3');

const [extension, entry, database] = process.argv.slice(2);
const connection = new Database(database);
connection.loadExtension(extension, entry);

for (const sql of readFileSync(0, 'utf8').split('\n').filter(Boolean)) {
  const statement = connection.prepare(sql);
  if (!statement.reader) {
    statement.run();
    continue;
  }
  for (const row of statement.raw().all()) {
    console.log(row.map((value) => (value === null ? 'NULL' : String(value))).join('|'));
  }
}
connection.close();

/** The list's tables. Every device runs this once; never change it, append to it. */

export const migrations = [
  `
  CREATE TABLE item (
    id TEXT PRIMARY KEY NOT NULL,
    list TEXT,
    position TEXT,
    title TEXT,
    done INTEGER NOT NULL DEFAULT 0,
    -- How many more than one. A counter: two people who press + at once make it two more.
    more INTEGER NOT NULL DEFAULT 0
  );
  SELECT crsql_as_crr('item', '{"columns":{"more":"counter"}}');
  SELECT crsql_fract_as_ordered('item', 'position', 'list');
  `,
  `
  -- One note for each list: a text, in which what two people type at once stays.
  CREATE TABLE note (list TEXT PRIMARY KEY NOT NULL, body TEXT NOT NULL DEFAULT '');
  SELECT crsql_as_crr('note', '{"columns":{"body":"text"}}');
  INSERT INTO note (list) VALUES ('shopping');
  `,
];

export interface Item {
  id: string;
  title: string;
  done: number;
  count: number;
}

/** What is to be bought, in the list's order. */
export const ITEMS = `
  SELECT id, title, done, 1 + more AS count
  FROM item WHERE list = 'shopping' ORDER BY position, id`;

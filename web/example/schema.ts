/** The list's tables. Every device runs this once; never change it, append to it. */

export const migrations = [
  `
  CREATE TABLE item (
    id TEXT PRIMARY KEY NOT NULL,
    list TEXT,
    position TEXT,
    title TEXT,
    done INTEGER NOT NULL DEFAULT 0
  );
  SELECT crsql_as_crr('item');
  SELECT crsql_fract_as_ordered('item', 'position', 'list');

  -- How many of an item: the sum of what everybody added, so that two people who press + at once make it two more.
  CREATE TABLE amount (id TEXT PRIMARY KEY NOT NULL, item TEXT, added INTEGER NOT NULL DEFAULT 0);
  CREATE INDEX amount_item ON amount (item);
  SELECT crsql_as_crr('amount');
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
  SELECT id, title, done, 1 + coalesce((SELECT sum(added) FROM amount WHERE item = item.id), 0) AS count
  FROM item WHERE list = 'shopping' ORDER BY position, id`;

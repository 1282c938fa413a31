//! Plans of migrations, and that carrying them out leads to the schema they were made for.

use rusqlite::Connection;

use super::automigrate::{Creation, Plan, TableChange, plan};
use super::ident::Ident;
use super::support::{database, db};

fn planned(now: &str, text: &str) -> Plan {
    plan(&db(&database(now)), text).unwrap()
}

fn refused(now: &str, text: &str) -> String {
    plan(&db(&database(now)), text).unwrap_err().to_string()
}

fn names(creations: &[Creation]) -> Vec<&str> {
    creations.iter().map(|creation| creation.name.as_str()).collect()
}

/// Carries a plan out as its field order says, then plans again.
fn carry_out(connection: &Connection, text: &str) -> Plan {
    let plan_now = plan(&db(connection), text).unwrap();
    let mut steps = Vec::new();
    let drops = [
        ("TRIGGER", &plan_now.drop_triggers),
        ("VIEW", &plan_now.drop_views),
        ("INDEX", &plan_now.drop_indexes),
        ("TABLE", &plan_now.drop_tables),
    ];
    for (kind, names) in drops {
        steps.extend(names.iter().map(|name| format!("DROP {kind} main.{}", Ident(name))));
    }
    for change in &plan_now.alter_tables {
        let table = Ident(&change.table);
        let drops =
            change.drop_columns.iter().map(|c| format!("ALTER TABLE main.{table} DROP COLUMN {}", Ident(c)));
        let adds = change.add_columns.iter().map(|c| format!("ALTER TABLE main.{table} ADD COLUMN {c}"));
        steps.extend(drops.chain(adds));
    }
    let creations = [
        &plan_now.create_tables,
        &plan_now.create_virtual_tables,
        &plan_now.create_indexes,
        &plan_now.create_views,
        &plan_now.create_triggers,
    ];
    steps.extend(creations.into_iter().flatten().map(|creation| creation.sql.clone()));
    for step in steps {
        connection.execute_batch(&step).unwrap_or_else(|error| panic!("{step}: {error}"));
    }
    plan(&db(connection), text).unwrap()
}

#[test]
fn a_schema_without_tables_is_refused() {
    let now = "CREATE TABLE t (a)";
    for text in [
        "",
        "  \n",
        "-- nothing",
        ";",
        "CREATE VIEW v AS SELECT 1",
        "CREATE VIRTUAL TABLE f USING fts5(a)",
        "SELECT 1",
    ] {
        assert_eq!(
            refused(now, text),
            "the schema creates no table, so migrating to it would drop every table; pass the whole schema",
            "{text}"
        );
    }
}

#[test]
fn an_equal_schema_needs_nothing_however_it_is_spelled() {
    let now = "CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT DEFAULT 'x', CHECK (a <> ''), FOREIGN KEY (a) REFERENCES u);
               CREATE INDEX i ON t (a); CREATE VIEW v AS SELECT a FROM t";
    let text = "create table if not exists \"T\" ([id] integer primary key, -- the key
                  A text default 'x', foreign key (a) references U, check (a <> ''));
                create index if not exists main.I on t (a);
                create view if not exists v as select a from t;
                select crsql_as_crr('t')";
    let plan = planned(now, text);
    assert!(plan.is_empty(), "{plan:?}");
    assert_eq!((plan.afterwards, plan.unapplied), (vec!["select crsql_as_crr('t')".to_owned()], vec![]));
}

#[test]
fn tables_and_columns_come_and_go() {
    let now = "CREATE TABLE gone (a); CREATE INDEX with_it ON gone (a);
               CREATE TABLE \"it's\" (id INTEGER PRIMARY KEY, a, b, c);
               CREATE INDEX of_a ON \"it's\" (a); CREATE INDEX changed ON \"it's\" (b)";
    let text =
        "CREATE TABLE new (x); SELECT crsql_as_crr('new'); CREATE TABLE \"It's\" (id INTEGER PRIMARY KEY,
                  \"b\", d TEXT NOT NULL DEFAULT 'x' CHECK (d <> ',') /* why */, e AS (b) , c);
                CREATE INDEX changed ON \"it's\" (b, c); CREATE INDEX added ON new (x)";
    let plan = planned(now, text);
    assert_eq!(
        plan,
        Plan {
            drop_indexes: vec!["of_a".into(), "changed".into()],
            drop_tables: vec!["gone".into()],
            alter_tables: vec![TableChange {
                table: "it's".into(),
                drop_columns: vec!["a".into()],
                add_columns: vec!["d TEXT NOT NULL DEFAULT 'x' CHECK (d <> ',')".into(), "e AS (b)".into()],
            }],
            create_tables: vec![Creation { name: "new".into(), sql: "CREATE TABLE main.new (x)".into() }],
            create_indexes: vec![
                Creation {
                    name: "changed".into(),
                    sql: "CREATE INDEX main.changed ON \"it's\" (b, c)".into()
                },
                Creation { name: "added".into(), sql: "CREATE INDEX main.added ON new (x)".into() },
            ],
            afterwards: vec!["SELECT crsql_as_crr('new')".into()],
            ..Plan::default()
        }
    );
    let connection = database(now);
    connection.execute_batch("CREATE TEMP TABLE \"it's\" (b); CREATE TEMP TABLE new (x)").unwrap();
    let again = carry_out(&connection, text);
    assert!(again.is_empty() && again.unapplied.is_empty(), "{again:?}");
}

#[test]
fn views_and_triggers_are_replaced_when_they_change_and_left_alone_otherwise() {
    let now = "CREATE TABLE t (a); CREATE VIEW v AS SELECT a FROM t; CREATE VIEW mine AS SELECT 1;
               CREATE TRIGGER tr AFTER INSERT ON t BEGIN SELECT 1; END;
               CREATE TRIGGER own AFTER INSERT ON t BEGIN SELECT 1; END";
    let text = "CREATE TABLE t (a, b); CREATE VIEW v AS SELECT a, b FROM t;
                CREATE TRIGGER tr AFTER INSERT ON t BEGIN SELECT 1; SELECT 2; END;
                CREATE TRIGGER IF NOT EXISTS other AFTER DELETE ON t BEGIN SELECT crsql_x(OLD.a); END;";
    let plan = planned(now, text);
    assert_eq!((plan.drop_views.clone(), plan.drop_triggers.clone()), (vec!["v".into()], vec!["tr".into()]));
    assert_eq!((names(&plan.create_views), names(&plan.create_triggers)), (vec!["v"], vec!["tr", "other"]));
    let again = carry_out(&database(now), text);
    assert!(again.is_empty(), "{again:?}");
}

#[test]
fn virtual_tables_are_created_once_and_never_dropped() {
    let now = "CREATE TABLE t (a); CREATE VIRTUAL TABLE kept USING fts5(x)";
    let text = "CREATE TABLE t (a); CREATE VIRTUAL TABLE IF NOT EXISTS f USING fts5(body)";
    assert_eq!(names(&planned(now, text).create_virtual_tables), ["f"]);
    let connection = database(now);
    assert!(carry_out(&connection, text).is_empty());
    let unknown = "CREATE TABLE t (a); CREATE VIRTUAL TABLE m USING module_of_the_application(x)";
    assert_eq!(names(&plan(&db(&connection), unknown).unwrap().create_virtual_tables), ["m"]);
}

#[test]
fn tables_of_sqlite_crsql_and_cr_sqlite_are_never_dropped() {
    let now = "CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT); CREATE TABLE __crsql_log (a); \
               CREATE TABLE crsql_site_id (a); CREATE TABLE t__crsql_clock (a); \
               CREATE INDEX __crsql_i ON __crsql_log (a); CREATE INDEX dbv ON t__crsql_clock (a); ANALYZE; \
               CREATE TRIGGER __crsql_1_insert AFTER INSERT ON t BEGIN SELECT 1; END";
    let plan = planned(now, "CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT)");
    assert!(plan.is_empty(), "{plan:?}");
}

#[test]
fn what_cannot_be_changed_in_place_is_reported() {
    let now = "CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT, CHECK (a <> ''))";
    let plan = planned(
        now,
        "CREATE TABLE t (id INTEGER PRIMARY KEY, a INT, b) STRICT".replace(", b)", ", b ANY)").as_str(),
    );
    assert_eq!(plan.alter_tables[0].add_columns, ["b ANY"]);
    assert_eq!(
        plan.unapplied,
        [
            "column \"a\" of table \"t\" is \"a TEXT\" here and \"a INT\" in the schema; SQLite can't change it in place, \
         so add a column of another name or rebuild the table",
            "table \"t\" has other constraints or options in the schema; SQLite can't change them in place, so rebuild the \
         table",
        ]
    );
}

#[test]
fn changes_that_would_fail_half_way_are_refused_while_planning() {
    let now = "CREATE TABLE t (a TEXT NOT NULL, b, PRIMARY KEY (a)); CREATE VIEW v AS SELECT 1";
    let t = |rest: &str| refused(now, &format!("CREATE TABLE t (a TEXT NOT NULL, b, {rest})"));
    assert_eq!(
        t("c NOT NULL, PRIMARY KEY (a, c)"),
        "the key of table \"t\" is (a) here and (a, c) in the schema; a key can't be migrated in place, so create a \
         table of another name and copy the rows"
    );
    assert!(t("PRIMARY KEY (a COLLATE nocase)").contains("(a) here and (a COLLATE NOCASE) in the schema"));
    assert!(t("c UNIQUE, PRIMARY KEY (a)").ends_with("it is UNIQUE; create a unique index instead"));
    assert!(t("c NOT NULL, PRIMARY KEY (a)").ends_with("add a DEFAULT"));
    assert!(t("c AS (b) STORED, PRIMARY KEY (a)").ends_with("a VIRTUAL one can be added"));
    assert!(refused(now, "CREATE TABLE v (a)").contains("\"v\" is a view here and a table in the schema"));
    assert!(
        refused(now, "CREATE TABLE x (a); CREATE VIEW t AS SELECT 1")
            .contains("\"t\" is a table here and a view")
    );
    assert!(
        refused(now, "CREATE TABLE x (a); CREATE VIRTUAL TABLE t USING fts5(a)")
            .contains("a virtual table in")
    );
    assert!(refused(now, "CREATE TABLE crsql_x (a)").contains("\"crsql_x\", a name that is reserved"));
}

#[test]
fn a_text_that_sqlite_refuses_changes_nothing_and_says_where() {
    let text = "CREATE TABLE t (a); CREATE INDEX i ON nowhere (b)";
    assert_eq!(
        refused("CREATE TABLE t (a)", text),
        "the schema's statement \"CREATE INDEX i ON nowhere (b)\" fails: no such table: main.nowhere; nothing was changed"
    );
    assert!(refused("CREATE TABLE t (a)", "CREATE TABLE t (a); DROP TABLE t").contains("\"DROP TABLE t\""));
    assert!(refused("CREATE TABLE t (a)", "CREATE TABLE t (a").contains("fails: incomplete input"));
}

#[test]
fn functions_of_the_application_may_stand_in_a_schema() {
    let text =
        "CREATE TABLE t (a CHECK (my_check(a, 1)), g AS (my_other(a))); CREATE INDEX i ON t (my_third(a))";
    let plan = planned("CREATE TABLE x (a)", text);
    assert_eq!((names(&plan.create_tables), names(&plan.create_indexes)), (vec!["t"], vec!["i"]));
}

#[test]
fn a_one_line_schema_loses_nothing() {
    let plan = planned(
        "CREATE TABLE x (a)",
        "CREATE TABLE t (a PRIMARY KEY NOT NULL); SELECT crsql_as_crr('t'); CREATE TABLE u (b);",
    );
    assert_eq!(names(&plan.create_tables), ["t", "u"]);
    assert_eq!(plan.afterwards, ["SELECT crsql_as_crr('t')"]);
}

//! The SQL functions that migrate, order, configure and look after a database, as an index.

use crate::sqlite::{Call, Error, Flags, Result, Value};
use crate::state::State;
use crate::{alter, config, doctor, gc, order, stats};

use super::{Body, Entry};

pub const FUNCTIONS: [Entry; 12] = [
    (c"crsql_automigrate", Flags::DIRECT_ONLY, automigrate),
    (c"crsql_fract_as_ordered", Flags::DIRECT_ONLY, fract_as_ordered),
    (c"crsql_fract_unique_key_between", Flags::INNOCUOUS, order::unique_key_between as Body),
    // It writes to any table, so a schema that is not trusted may not call it; our own views do not.
    (c"crsql_fract_fix_conflict_return_old_key", Flags::NONE, order::fix_conflict as Body),
    (c"crsql_config_set", Flags::DIRECT_ONLY, config_set),
    (c"crsql_config_get", Flags::INNOCUOUS, config_get),
    (c"crsql_rows_impacted", Flags::INNOCUOUS, rows_impacted),
    (c"crsql_finalize", Flags::DIRECT_ONLY, finalize),
    (c"crsql_internal_sync_bit", Flags::INNOCUOUS, sync_bit),
    (c"crsql_doctor", Flags::DIRECT_ONLY, doctor),
    (c"crsql_stats", Flags::DIRECT_ONLY, stats),
    (c"crsql_gc", Flags::DIRECT_ONLY, gc),
];

const NONE: &str = "no arguments";

fn automigrate(state: &State, call: &mut Call<'_>) -> Result<()> {
    const NAME: &str = "crsql_automigrate";
    call.expect_args(NAME, 1..=2, "1 argument, the schema to migrate to, or 2: schema, cleanup")?;
    let schema = call.text(NAME, 0)?;
    if call.arg_count() == 2 {
        // cr-sqlite runs it on the private database in which it tries the schema; ours leaves nothing to clean up.
        call.text(NAME, 1)?;
    }
    alter::automigrate(state, schema)?;
    call.set_text("migration complete");
    Ok(())
}

fn fract_as_ordered(state: &State, call: &mut Call<'_>) -> Result<()> {
    const NAME: &str = "crsql_fract_as_ordered";
    if call.arg_count() < 2 {
        return Err(Error::refused(
            "Must provide at least 2 arguments -- the table name and the column to order by",
        ));
    }
    let names = (0..call.arg_count()).map(|at| call.text(NAME, at)).collect::<Result<Vec<_>>>()?;
    order::as_ordered(state, names[0], names[1], &names[2..])
}

fn config_set(state: &State, call: &mut Call<'_>) -> Result<()> {
    const NAME: &str = "crsql_config_set";
    call.expect_args(NAME, 2..=2, "2 arguments: name, value")?;
    config::set(state, call.text(NAME, 0)?, call.arg(1))?;
    call.set_arg(&call.args(), 1);
    Ok(())
}

fn config_get(state: &State, call: &mut Call<'_>) -> Result<()> {
    const NAME: &str = "crsql_config_get";
    call.expect_args(NAME, 1..=1, "1 argument: name")?;
    let name = call.text(NAME, 0)?;
    let default = match name {
        "tie-break" => Value::Text(b"site".to_vec()),
        "merge-equal-values" => Value::Integer(0),
        _ => return Err(Error::refused(format_args!("Unknown setting name {name:?}"))),
    };
    call.set_value(config::value(state, name)?.unwrap_or(default).as_ref());
    Ok(())
}

fn rows_impacted(state: &State, call: &mut Call<'_>) -> Result<()> {
    call.expect_args("crsql_rows_impacted", 0..=0, NONE)?;
    call.set_i64(state.rows_impacted.get());
    Ok(())
}

/// There is nothing to finalize: a connection closes without it.
fn finalize(_: &State, call: &mut Call<'_>) -> Result<()> {
    call.expect_args("crsql_finalize", 0..=0, NONE)?;
    call.set_text("finalized");
    Ok(())
}

/// 1 while a merge writes base tables. It can't be set: a connection that forgot to set it back would lose writes.
fn sync_bit(state: &State, call: &mut Call<'_>) -> Result<()> {
    call.expect_args("crsql_internal_sync_bit", 0..=0, "no arguments, since it can only be read")?;
    call.set_i64(i64::from(state.muted.get() > 0));
    Ok(())
}

fn doctor(state: &State, call: &mut Call<'_>) -> Result<()> {
    call.expect_args("crsql_doctor", 0..=0, NONE)?;
    call.set_text(&doctor::doctor(state)?);
    Ok(())
}

fn stats(state: &State, call: &mut Call<'_>) -> Result<()> {
    call.expect_args("crsql_stats", 0..=0, NONE)?;
    call.set_text(&stats::stats(state)?);
    Ok(())
}

fn gc(state: &State, call: &mut Call<'_>) -> Result<()> {
    call.expect_args("crsql_gc", 0..=0, NONE)?;
    call.set_text(&gc::gc(state)?);
    Ok(())
}

//! The SQL functions that migrate, order, configure and look after a database, as an index.

use crate::sqlite::{Call, Error, Flags, Result, Value, ValueRef};
use crate::state::State;
use crate::{alter, config, doctor, gc, losers, members, order, stats};
use crsql_core::ids::SiteId;
use crsql_core::version_vector::VersionVector;

use super::{Body, Entry};

pub const FUNCTIONS: [Entry; 17] = [
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
    (c"crsql_register_peer", Flags::DIRECT_ONLY, register_peer),
    (c"crsql_unregister_peer", Flags::DIRECT_ONLY, unregister_peer),
    (c"crsql_peer_vector", Flags::DIRECT_ONLY, peer_vector),
    (c"crsql_rebootstrap", Flags::DIRECT_ONLY, rebootstrap),
    (c"crsql_bring_back", Flags::DIRECT_ONLY, bring_back),
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

/// The site that the first argument names.
fn site_argument(call: &Call<'_>, function: &'static str) -> Result<SiteId> {
    SiteId::try_from(call.blob(function, 0)?)
        .map_err(|error| Error::refused(format_args!("{function}: {error}; take it from crsql_site_id()")))
}

/// `crsql_register_peer(site_id [, lease in seconds])`
fn register_peer(state: &State, call: &mut Call<'_>) -> Result<()> {
    const NAME: &str = "crsql_register_peer";
    call.expect_args(NAME, 1..=2, "1 argument: site_id, or 2: site_id, lease in seconds")?;
    let lease = match (call.arg_count(), call.arg(1)) {
        (1, _) | (_, ValueRef::Null) => None,
        _ => Some(call.integer(NAME, 1)?),
    };
    // A hundred years, so that the sum with the time stays an integer.
    if lease.is_some_and(|seconds| !(1..=3_155_760_000).contains(&seconds)) {
        return Err(Error::refused(format_args!(
            "{NAME}: a lease lasts from 1 second to 100 years; crsql_unregister_peer() ends one"
        )));
    }
    members::register(state, site_argument(call, NAME)?, lease)?;
    call.set_text("OK");
    Ok(())
}

/// `crsql_unregister_peer(site_id)`
fn unregister_peer(state: &State, call: &mut Call<'_>) -> Result<()> {
    const NAME: &str = "crsql_unregister_peer";
    call.expect_args(NAME, 1..=1, "1 argument: site_id")?;
    call.set_i64(i64::from(members::unregister(state, site_argument(call, NAME)?)?));
    Ok(())
}

/// `crsql_peer_vector(site_id, vector)`: 1 if the site holds all that was collected here, 0 if it has to begin again.
fn peer_vector(state: &State, call: &mut Call<'_>) -> Result<()> {
    const NAME: &str = "crsql_peer_vector";
    call.expect_args(NAME, 2..=2, "2 arguments: site_id, its version vector")?;
    let vector = VersionVector::decode(call.blob(NAME, 1)?, &Default::default())
        .map_err(|e| Error::refused(format_args!("{NAME}: the second argument is no version vector: {e}")))?;
    call.set_i64(i64::from(members::hear(state, site_argument(call, NAME)?, &vector)?));
    Ok(())
}

/// `crsql_rebootstrap(changeset [, written])`
fn rebootstrap(state: &State, call: &mut Call<'_>) -> Result<()> {
    const NAME: &str = "crsql_rebootstrap";
    call.expect_args(
        NAME,
        1..=2,
        "1 argument, a whole changeset, or 2: that, own transactions as they were",
    )?;
    let written = if call.arg_count() == 2 { Some(call.blob(NAME, 1)?) } else { None };
    call.set_text(&crate::rebootstrap::rebootstrap(state, call.blob(NAME, 0)?, written)?);
    Ok(())
}

/// `crsql_bring_back(id)`: the id of a row of `crsql_losers`.
fn bring_back(state: &State, call: &mut Call<'_>) -> Result<()> {
    const NAME: &str = "crsql_bring_back";
    call.expect_args(NAME, 1..=1, "1 argument: the id of a row of crsql_losers")?;
    losers::bring_back(state, call.integer(NAME, 0)?)?;
    call.set_text("OK");
    Ok(())
}

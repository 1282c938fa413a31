//! The SQL functions, as an index: what each is called, takes and may do. The work is elsewhere.

mod admin;
#[cfg(feature = "text")]
mod text;

use crate::alter;
use crate::changeset::Since;
use crate::options::Options;
use crate::sqlite::{Call, Db, Error, Flags, Result, ValueRef, register_function};
use crate::state::State;
use crsql_core::changeset::Compress;
use crsql_core::ids::SiteId;
use crsql_core::version_vector::VersionVector;
use std::ffi::CStr;
use std::rc::Rc;

type Body = fn(&State, &mut Call<'_>) -> Result<()>;
/// Name, flags, body.
type Entry = (&'static CStr, Flags, Body);

const FUNCTIONS: &[Entry] = &[
    (c"crsql_as_crr", Flags::DIRECT_ONLY, as_crr),
    (c"crsql_as_table", Flags::DIRECT_ONLY, as_table),
    (c"crsql_begin_alter", Flags::DIRECT_ONLY, begin_alter),
    (c"crsql_commit_alter", Flags::DIRECT_ONLY, commit_alter),
    (c"crsql_site_id", Flags::INNOCUOUS, site_id),
    (c"crsql_new_site", Flags::DIRECT_ONLY, new_site),
    (c"crsql_db_version", Flags::INNOCUOUS, db_version),
    (c"crsql_next_db_version", Flags::INNOCUOUS, next_db_version),
    (c"crsql_changeset", Flags::DIRECT_ONLY, changeset),
    (c"crsql_apply", Flags::DIRECT_ONLY, apply),
    (c"crsql_version_vector", Flags::NONE, version_vector),
    (c"crsql_digest", Flags::NONE, digest),
    (c"crsql_canonical_key", Flags::NONE, canonical_key),
    (c"crsql_token", Flags::NONE, token),
    (c"crsql_wait_for", Flags::DIRECT_ONLY, wait_for),
];

/// Registers them.
pub fn register(db: Db, state: &Rc<State>) -> Result<()> {
    let functions = FUNCTIONS.iter().chain(&admin::FUNCTIONS);
    #[cfg(feature = "text")]
    let functions = functions.chain(&text::FUNCTIONS);
    let mut functions = functions;
    functions.try_for_each(|(name, flags, body)| {
        let body = *body;
        register_function(db, name, -1, *flags, state, move |state: &State, call: &mut Call<'_>| {
            body(state, call)
        })
    })
}

/// The table that a call of one or two arguments names: `(table)` or `(schema, table)`.
fn table_argument<'a>(call: &Call<'a>, function: &'static str, max: usize) -> Result<&'a str> {
    call.expect_args(function, 1..=max, "1 argument: table, or 2: schema, table")?;
    named_table(call, function, call.arg_count())
}

/// The table that the first `count` arguments name.
fn named_table<'a>(call: &Call<'a>, function: &'static str, count: usize) -> Result<&'a str> {
    if count == 1 {
        return call.text(function, 0);
    }
    let schema = call.text(function, 0)?;
    if !schema.eq_ignore_ascii_case("main") {
        return Err(Error::refused(format_args!(
            "{function} works on schema \"main\" only, not {schema:?}; open that database as the main one"
        )));
    }
    call.text(function, 1)
}

fn as_crr(state: &State, call: &mut Call<'_>) -> Result<()> {
    const NAME: &str = "crsql_as_crr";
    call.expect_args(
        NAME,
        1..=3,
        "1 argument: table, 2: schema, table or table, options, or 3: schema, table, options",
    )?;
    let last = call.arg_count() - 1;
    let has_options = last > 0 && matches!(call.arg(last), ValueRef::Text(text) if text.starts_with(b"{"));
    let options =
        if has_options { Options::parse(NAME, call.text(NAME, last)?)? } else { Options::default() };
    let name = named_table(call, NAME, call.arg_count() - usize::from(has_options))?;
    alter::as_crr(state, name, &options)?;
    call.set_text("OK");
    Ok(())
}

fn as_table(state: &State, call: &mut Call<'_>) -> Result<()> {
    let name = table_argument(call, "crsql_as_table", 2)?;
    alter::as_table(state, name)
}

fn begin_alter(state: &State, call: &mut Call<'_>) -> Result<()> {
    let name = table_argument(call, "crsql_begin_alter", 2)?;
    alter::begin_alter(state, name)?;
    call.set_text("OK");
    Ok(())
}

fn commit_alter(state: &State, call: &mut Call<'_>) -> Result<()> {
    let name = table_argument(call, "crsql_commit_alter", 3)?;
    alter::commit_alter(state, name)
}

fn site_id(state: &State, call: &mut Call<'_>) -> Result<()> {
    call.expect_args("crsql_site_id", 0..=0, "no arguments")?;
    call.set_blob(&crate::site::site_id(state)?.0);
    Ok(())
}

fn new_site(state: &State, call: &mut Call<'_>) -> Result<()> {
    const NAME: &str = "crsql_new_site";
    const WANTED: &str =
        "no arguments, or 1: the last version to leave to the old identity, or the identity to take";
    call.expect_args(NAME, 0..=1, WANTED)?;
    let site = if call.arg_count() == 0 {
        crate::site::new_site(state)?
    } else if let ValueRef::Blob(bytes) = call.arg(0) {
        let site =
            SiteId::try_from(bytes).map_err(|error| Error::refused(format_args!("{NAME}: {error}")))?;
        crate::site::become_site(state, site)?;
        site
    } else {
        let keep = call.integer(NAME, 0)?;
        let keep = u64::try_from(keep)
            .map_err(|_| Error::refused(format_args!("{NAME}: a version is never negative, not {keep}")))?;
        crate::reissue::reissue(state, keep)?
    };
    call.set_blob(&site.0);
    Ok(())
}

fn db_version(state: &State, call: &mut Call<'_>) -> Result<()> {
    call.expect_args("crsql_db_version", 0..=0, "no arguments")?;
    call.set_i64(crate::site::db_version(state)? as i64);
    Ok(())
}

fn next_db_version(state: &State, call: &mut Call<'_>) -> Result<()> {
    call.expect_args("crsql_next_db_version", 0..=1, "no arguments, or 1: ignored")?;
    call.set_i64(crate::site::db_version(state)? as i64 + 1);
    Ok(())
}

fn changeset(state: &State, call: &mut Call<'_>) -> Result<()> {
    const NAME: &str = "crsql_changeset";
    call.expect_args(
        NAME,
        0..=3,
        "at most 3 arguments: since (a db_version or a version vector), compress, \
         the db_version from which to look for what the vector lacks",
    )?;
    let compress = match call.arg(1) {
        ValueRef::Null => Compress::WhereItPays,
        ValueRef::Integer(0) => Compress::No,
        ValueRef::Integer(_) => Compress::Yes,
        _ => {
            return Err(Error::Argument {
                function: NAME,
                position: 2,
                expected: "an integer (0 or 1)",
                found: "something else",
            });
        }
    };
    let since = match (call.arg_count(), call.arg(0)) {
        (0, _) => Since::Position(0),
        (3, ValueRef::Integer(_)) => {
            return Err(Error::refused(format_args!(
                "{NAME}: a third argument goes with a version vector, not with a db_version"
            )));
        }
        (_, ValueRef::Integer(position)) => Since::Position(position_of(NAME, position)?),
        (count, ValueRef::Blob(vector)) => {
            let vector = VersionVector::decode(vector, &Default::default()).map_err(|e| {
                Error::refused(format_args!("{NAME}: the argument is no version vector: {e}"))
            })?;
            match count {
                3 => Since::Newer(position_of(NAME, call.integer(NAME, 2)?)?, vector),
                _ => Since::Vector(vector),
            }
        }
        (_, _) => {
            call.blob(NAME, 0).map_err(|_| Error::Argument {
                function: NAME,
                position: 1,
                expected: "an integer (a db_version) or a blob (a version vector)",
                found: "something else",
            })?;
            return Ok(());
        }
    };
    crate::alter::enter(state)?;
    call.give_blob(crate::changeset::build(state, &since, compress)?);
    Ok(())
}

fn position_of(function: &str, position: i64) -> Result<u64> {
    u64::try_from(position).map_err(|_| {
        Error::refused(format_args!("{function}: a db_version is never negative, not {position}"))
    })
}

fn apply(state: &State, call: &mut Call<'_>) -> Result<()> {
    call.expect_args("crsql_apply", 1..=1, "1 argument: a changeset")?;
    let report = crate::changeset::apply(state, call.blob("crsql_apply", 0)?)?;
    call.set_text(&report.to_json());
    Ok(())
}

fn version_vector(state: &State, call: &mut Call<'_>) -> Result<()> {
    call.expect_args("crsql_version_vector", 0..=0, "no arguments")?;
    crate::alter::enter(state)?;
    call.set_blob(&crate::changeset::encoded_vector(state)?);
    Ok(())
}

fn digest(state: &State, call: &mut Call<'_>) -> Result<()> {
    call.expect_args("crsql_digest", 0..=4, "no arguments, 1: table, or 4: table, from, to, parts")?;
    crate::alter::enter(state)?;
    if call.arg_count() > 1 {
        return range_digests(state, call);
    }
    let only = if call.arg_count() == 0 { None } else { Some(call.text("crsql_digest", 0)?) };
    if let Some(name) = only
        && crate::alter::find_replicated(state, name)?.is_none()
    {
        return Err(Error::refused(format_args!("crsql_digest: table {name:?} is not replicated")));
    }
    call.set_text(&crate::changeset::digest(state, only)?.hex());
    Ok(())
}

/// `crsql_digest(table, from, to, parts)`: a JSON array with the digest of each part.
fn range_digests(state: &State, call: &mut Call<'_>) -> Result<()> {
    const NAME: &str = "crsql_digest";
    call.expect_args(NAME, 4..=4, "no arguments, 1: table, or 4: table, from, to, parts")?;
    let (table, from, parts) = (call.text(NAME, 0)?, call.blob(NAME, 1)?, call.integer(NAME, 3)?);
    let to = if matches!(call.arg(2), ValueRef::Null) { None } else { Some(call.blob(NAME, 2)?) };
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let parts = usize::try_from(parts).unwrap_or(0).clamp(1, 1 << 12);
    let ranges = crate::changeset::range_digests(state, table, from, to, parts)?;
    let ranges = ranges.iter().map(|range| {
        let to = range.to.as_ref().map_or("null".into(), |to| format!("\"{}\"", hex(to)));
        let (from, rows, sum) = (hex(&range.from), range.rows, hex(&range.sum.0));
        format!("{{\"from\":\"{from}\",\"to\":{to},\"rows\":{rows},\"sum\":\"{sum}\"}}")
    });
    call.set_text(&format!("[{}]", ranges.collect::<Vec<_>>().join(",")));
    Ok(())
}

/// `crsql_canonical_key(table, pk)`: the packed key in the one spelling by which rows are told apart.
fn canonical_key(state: &State, call: &mut Call<'_>) -> Result<()> {
    const NAME: &str = "crsql_canonical_key";
    call.expect_args(NAME, 2..=2, "2 arguments: table, pk")?;
    let (table, pk) = (call.text(NAME, 0)?, call.blob(NAME, 1)?);
    state.check_schema()?;
    match state.table_named(table)? {
        Some(table) => {
            let key =
                crsql_core::key::canonical_packed_key(pk, &table.key_columns).map_err(Error::refused)?;
            call.set_blob(&key.bytes);
        }
        None => call.set_arg(&call.args(), 1),
    }
    Ok(())
}

fn token(state: &State, call: &mut Call<'_>) -> Result<()> {
    call.expect_args("crsql_token", 0..=0, "no arguments")?;
    call.set_text(&crate::site::token(state)?);
    Ok(())
}

fn wait_for(state: &State, call: &mut Call<'_>) -> Result<()> {
    call.expect_args("crsql_wait_for", 2..=2, "2 arguments: token, milliseconds")?;
    let (token, wait) = (call.text("crsql_wait_for", 0)?, call.integer("crsql_wait_for", 1)?);
    call.set_i64(i64::from(crate::site::wait_for(state, token, wait)?));
    Ok(())
}

//! SQL functions that need no replicated state: packing, fractional keys, build information.
//!
//! Anything that reads or writes clocks is registered elsewhere.

mod build;
pub mod fraction;
mod pack;
mod unpack;

use std::rc::Rc;

use crate::sqlite::{Call, Db, Flags, Result, register_function, register_module};

/// Registers all of them. `state` is only kept alive, so that everything registered on a connection shares it.
pub fn register<S: 'static>(db: Db, state: &Rc<S>) -> Result<()> {
    let pure = Flags::INNOCUOUS | Flags::DETERMINISTIC;
    register_function(db, c"crsql_version", 0, pure, state, build::version)?;
    register_function(db, c"crsql_sha", 0, pure, state, build::sha)?;
    register_function(db, c"crsql_pack_columns", -1, pure, state, pack::pack_columns)?;
    register_function(db, c"crsql_fract_key_between", 2, pure, state, fract_key_between)?;
    register_module::<unpack::UnpackColumns<S>>(db, c"crsql_unpack_columns", state)
}

/// `crsql_fract_key_between(a, b)`: a key that sorts after `a` and before `b`; NULL stands for either end.
fn fract_key_between<S>(_: &S, call: &mut Call<'_>) -> Result<()> {
    const NAME: &str = "crsql_fract_key_between";
    let (after, before) = (call.optional_text(NAME, 0)?, call.optional_text(NAME, 1)?);
    let key = fraction::key_between(after, before).map_err(crate::sqlite::Error::refused)?;
    call.set_text(&key);
    Ok(())
}

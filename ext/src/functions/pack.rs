//! `crsql_pack_columns`: the encoding of `crsql_changes.pk`.

use crsql_core::pack::Packer;

use crate::sqlite::{Call, Error, Result};

/// `crsql_pack_columns(v...)`: any values, NULL included, as one blob; at most 255 of them.
pub(super) fn pack_columns<S>(_: &S, call: &mut Call<'_>) -> Result<()> {
    let mut packed = Vec::with_capacity(1 + 17 * call.arg_count());
    let mut packer = Packer::new(&mut packed);
    for value in call.args().iter() {
        packer.push(value).map_err(|e| Error::refused(format_args!("crsql_pack_columns(): {e}")))?;
    }
    call.set_blob(&packed);
    Ok(())
}

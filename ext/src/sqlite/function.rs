//! Scalar SQL functions.

use std::ffi::{CStr, c_int, c_void};
use std::ops::{BitOr, Deref};
use std::rc::Rc;

use super::ValueRef;
use rusqlite::ffi;

use super::error::{guard, guard_drop};
use super::value::storage_class;
use super::{Args, Db, Error, Output, Result};

/// What SQLite may assume about a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flags(c_int);

impl Flags {
    /// Nothing.
    pub const NONE: Flags = Flags(0);
    /// The same arguments give the same result during one statement.
    pub const DETERMINISTIC: Flags = Flags(ffi::SQLITE_DETERMINISTIC);
    /// Harmless: allowed in triggers and views even with `trusted_schema=off`.
    pub const INNOCUOUS: Flags = Flags(ffi::SQLITE_INNOCUOUS);
    /// Only from top-level SQL, never from triggers, views or the schema.
    pub const DIRECT_ONLY: Flags = Flags(ffi::SQLITE_DIRECTONLY);
}

impl BitOr for Flags {
    type Output = Flags;

    fn bitor(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }
}

/// One call of a function: its arguments, and (by dereference) its [`Output`].
pub struct Call<'a> {
    args: Args<'a>,
    output: Output<'a>,
}

impl<'a> Call<'a> {
    /// How many arguments were given.
    #[inline]
    pub fn arg_count(&self) -> usize {
        self.args.len()
    }

    /// The argument at `index`, from 0; NULL past the end.
    #[inline]
    pub fn arg(&self, index: usize) -> ValueRef<'a> {
        self.args.get(index)
    }

    /// All arguments.
    #[inline]
    pub fn args(&self) -> Args<'a> {
        self.args
    }

    /// The argument at `index` as a text of valid UTF-8.
    pub fn text(&self, function: &'static str, index: usize) -> Result<&'a str> {
        match self.arg(index) {
            ValueRef::Text(text) => std::str::from_utf8(text)
                .map_err(|_| wrong_type(function, index, "text", "text that is not valid UTF-8")),
            other => Err(wrong_type(function, index, "text", storage_class(&other))),
        }
    }

    /// The argument at `index` as a text of valid UTF-8, or NULL.
    pub fn optional_text(&self, function: &'static str, index: usize) -> Result<Option<&'a str>> {
        match self.arg(index) {
            ValueRef::Null => Ok(None),
            ValueRef::Text(_) => self.text(function, index).map(Some),
            other => Err(wrong_type(function, index, "text or NULL", storage_class(&other))),
        }
    }

    /// The argument at `index` as a blob.
    pub fn blob(&self, function: &'static str, index: usize) -> Result<&'a [u8]> {
        match self.arg(index) {
            ValueRef::Blob(blob) => Ok(blob),
            other => Err(wrong_type(function, index, "a blob", storage_class(&other))),
        }
    }

    /// The argument at `index` as an integer.
    pub fn integer(&self, function: &'static str, index: usize) -> Result<i64> {
        match self.arg(index) {
            ValueRef::Integer(integer) => Ok(integer),
            other => Err(wrong_type(function, index, "an integer", storage_class(&other))),
        }
    }

    /// Fails unless the number of arguments is within `range`; `expected` is its wording for the user.
    pub fn expect_args(
        &self,
        function: &'static str,
        range: impl std::ops::RangeBounds<usize>,
        expected: &'static str,
    ) -> Result<()> {
        let found = self.arg_count();
        if range.contains(&found) { Ok(()) } else { Err(Error::ArgumentCount { function, expected, found }) }
    }
}

#[cold]
fn wrong_type(function: &'static str, index: usize, expected: &'static str, found: &'static str) -> Error {
    Error::Argument { function, position: index + 1, expected, found }
}

impl<'a> Deref for Call<'a> {
    type Target = Output<'a>;

    #[inline]
    fn deref(&self) -> &Output<'a> {
        &self.output
    }
}

struct Function<S, F> {
    state: Rc<S>,
    body: F,
}

/// Registers `body` as the SQL function `name` with `args` arguments, or any number of them with -1. SQLite
/// drops the state's reference when the connection closes or the function is replaced.
///
/// Functions that take a fixed number of arguments should still be registered with -1 and use
/// [`Call::expect_args`] where SQLite's own `wrong number of arguments` tells too little.
pub fn register_function<S, F>(
    db: Db,
    name: &CStr,
    args: i32,
    flags: Flags,
    state: &Rc<S>,
    body: F,
) -> Result<()>
where
    S: 'static,
    F: Fn(&S, &mut Call<'_>) -> Result<()> + 'static,
{
    let function = Box::into_raw(Box::new(Function { state: Rc::clone(state), body }));
    // SAFETY: the connection is open; the box is handed to SQLite, which passes it to `destroy` exactly once,
    // even when the registration fails.
    let rc = unsafe {
        ffi::sqlite3_create_function_v2(
            db.handle(),
            name.as_ptr(),
            args,
            ffi::SQLITE_UTF8 | flags.0,
            function.cast::<c_void>(),
            Some(invoke::<S, F>),
            None,
            None,
            Some(destroy::<S, F>),
        )
    };
    db.check(rc)
}

unsafe extern "C" fn invoke<S, F>(
    context: *mut ffi::sqlite3_context,
    argc: c_int,
    argv: *mut *mut ffi::sqlite3_value,
) where
    F: Fn(&S, &mut Call<'_>) -> Result<()>,
{
    // SAFETY: the context and the arguments are valid during the call; the user data is the box made at
    // registration, and SQLite does not destroy a function while a statement that uses it exists.
    let (function, mut call) = unsafe {
        let function = &*ffi::sqlite3_user_data(context).cast::<Function<S, F>>();
        (function, Call { args: Args::new(argc, argv), output: Output::new(context) })
    };
    if let Err(error) = guard(|| (function.body)(&function.state, &mut call)) {
        call.output.set_error(&error);
    }
}

/// Registers `body` as the aggregate function `name` with any number of arguments: it is run for each row and the
/// aggregate itself is NULL. SQLite drops the state's reference as with [`register_function`].
pub fn register_aggregate<S, F>(db: Db, name: &CStr, flags: Flags, state: &Rc<S>, body: F) -> Result<()>
where
    S: 'static,
    F: Fn(&S, &Args<'_>) -> Result<()> + 'static,
{
    let function = Box::into_raw(Box::new(Function { state: Rc::clone(state), body }));
    // SAFETY: as in `register_function`.
    let rc = unsafe {
        ffi::sqlite3_create_function_v2(
            db.handle(),
            name.as_ptr(),
            -1,
            ffi::SQLITE_UTF8 | flags.0,
            function.cast::<c_void>(),
            None,
            Some(step::<S, F>),
            Some(finish),
            Some(destroy::<S, F>),
        )
    };
    db.check(rc)
}

unsafe extern "C" fn step<S, F>(
    context: *mut ffi::sqlite3_context,
    argc: c_int,
    argv: *mut *mut ffi::sqlite3_value,
) where
    F: Fn(&S, &Args<'_>) -> Result<()>,
{
    // SAFETY: as in `invoke`.
    let (function, args) =
        unsafe { (&*ffi::sqlite3_user_data(context).cast::<Function<S, F>>(), Args::new(argc, argv)) };
    if let Err(error) = guard(|| (function.body)(&function.state, &args)) {
        // SAFETY: the context is valid during the call.
        unsafe { Output::new(context) }.set_error(&error);
    }
}

/// An aggregate that sets no result is NULL.
unsafe extern "C" fn finish(_: *mut ffi::sqlite3_context) {}

unsafe extern "C" fn destroy<S, F>(function: *mut c_void) {
    // SAFETY: made by `Box::into_raw` at registration; SQLite calls this once.
    guard_drop(|| drop(unsafe { Box::from_raw(function.cast::<Function<S, F>>()) }));
}

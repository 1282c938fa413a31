//! `sqlite3_value`: the arguments of functions, of `xFilter` and of `xUpdate`.

use std::ffi::c_int;
use std::marker::PhantomData;
use std::slice;

use super::ValueRef;
use rusqlite::ffi;

/// The values that SQLite passes to a callback. Text is UTF-8 whatever the database's encoding, but not
/// necessarily valid UTF-8.
#[derive(Clone, Copy)]
pub struct Args<'a> {
    values: *mut *mut ffi::sqlite3_value,
    len: usize,
    callback: PhantomData<&'a ffi::sqlite3_value>,
}

impl<'a> Args<'a> {
    /// # Safety
    /// `values` points at `len` protected values that stay valid and unchanged during `'a`.
    #[inline]
    pub(super) unsafe fn new(len: i32, values: *mut *mut ffi::sqlite3_value) -> Args<'a> {
        Args { values, len: usize::try_from(len).unwrap_or(0), callback: PhantomData }
    }

    /// How many values there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// No values at all.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The value at `index`, from 0; NULL past the end.
    #[inline]
    pub fn get(&self, index: usize) -> ValueRef<'a> {
        match self.raw(index) {
            // SAFETY: `raw` hands out only the callback's own values.
            Some(value) => unsafe { value_ref(value) },
            None => ValueRef::Null,
        }
    }

    /// All values in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = ValueRef<'a>> + use<'a> {
        let args = *self;
        (0..args.len).map(move |index| args.get(index))
    }

    /// The integer at `index`, if that is one.
    #[inline]
    pub fn integer(&self, index: usize) -> Option<i64> {
        let value = self.raw(index)?;
        // SAFETY: as in `get`.
        unsafe {
            (ffi::sqlite3_value_type(value) == ffi::SQLITE_INTEGER).then(|| ffi::sqlite3_value_int64(value))
        }
    }

    /// The storage class at `index`; NULL past the end.
    #[inline]
    pub fn class(&self, index: usize) -> Class {
        // SAFETY: as in `get`.
        self.raw(index).map_or(Class::Null, |value| Class::of(unsafe { ffi::sqlite3_value_type(value) }))
    }

    /// The value at `index` is this blob.
    #[inline]
    pub fn is_blob(&self, index: usize, blob: &[u8]) -> bool {
        matches!(self.get(index), ValueRef::Blob(value) if value == blob)
    }

    /// The value at `index` is this text.
    #[inline]
    pub fn is_text(&self, index: usize, text: &[u8]) -> bool {
        matches!(self.get(index), ValueRef::Text(value) if value == text)
    }

    /// As [`ValueRef::same`] of two values.
    #[inline]
    pub fn are_same(&self, a: usize, b: usize) -> bool {
        match (self.raw(a), self.raw(b)) {
            // SAFETY: as in `get`.
            (Some(a), Some(b)) => unsafe { are_same(a, b) },
            _ => self.get(a).same(&self.get(b)),
        }
    }

    /// Reads triples of a number, a value and another value from `first` on, and gives the numbers whose values are
    /// not the same, as bits; `None` when one is no number below 64.
    #[inline]
    pub fn changed_bits(&self, first: usize) -> Option<u64> {
        let mut changed = 0;
        let mut at = first;
        while let (Some(a), Some(b)) = (self.raw(at + 1), self.raw(at + 2)) {
            // SAFETY: as in `get`.
            if !unsafe { are_same(a, b) } {
                changed |= 1 << self.integer(at).filter(|number| (0..64).contains(number))?;
            }
            at += 3;
        }
        Some(changed)
    }

    /// In `xUpdate`: the column is not assigned by the UPDATE and its value was not fetched.
    #[inline]
    pub fn is_unchanged(&self, index: usize) -> bool {
        // SAFETY: as in `get`.
        self.raw(index).is_some_and(|value| unsafe { ffi::sqlite3_value_nochange(value) != 0 })
    }

    /// The values from `from` on.
    #[inline]
    pub fn skip(&self, from: usize) -> Args<'a> {
        let from = from.min(self.len);
        // SAFETY: `from <= len`, so the pointer stays inside the array or one past it.
        Args { values: unsafe { self.values.add(from) }, len: self.len - from, callback: PhantomData }
    }

    #[inline]
    pub(super) fn raw(&self, index: usize) -> Option<*mut ffi::sqlite3_value> {
        // SAFETY: in bounds, by the check.
        (index < self.len).then(|| unsafe { *self.values.add(index) })
    }
}

/// A storage class.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Class {
    Null,
    Integer,
    Real,
    Text,
    Blob,
}

impl Class {
    #[inline]
    fn of(code: c_int) -> Class {
        match code {
            ffi::SQLITE_INTEGER => Class::Integer,
            ffi::SQLITE_FLOAT => Class::Real,
            ffi::SQLITE_TEXT => Class::Text,
            ffi::SQLITE_BLOB => Class::Blob,
            _ => Class::Null,
        }
    }
}

/// As [`ValueRef::same`].
///
/// # Safety
/// Both are protected values that stay valid during the call.
#[inline]
unsafe fn are_same(a: *mut ffi::sqlite3_value, b: *mut ffi::sqlite3_value) -> bool {
    // SAFETY: by this function's contract; lengths are asked for first, as in `value_ref`.
    unsafe {
        let class = ffi::sqlite3_value_type(a);
        if class != ffi::sqlite3_value_type(b) {
            return false;
        }
        match class {
            ffi::SQLITE_INTEGER => ffi::sqlite3_value_int64(a) == ffi::sqlite3_value_int64(b),
            ffi::SQLITE_NULL => true,
            ffi::SQLITE_TEXT | ffi::SQLITE_BLOB => {
                let len = ffi::sqlite3_value_bytes(a);
                if len != ffi::sqlite3_value_bytes(b) {
                    false
                } else if len == 0 {
                    value_ref(a).same(&value_ref(b))
                } else {
                    let (a, b) = (ffi::sqlite3_value_blob(a), ffi::sqlite3_value_blob(b));
                    bytes(a.cast(), len) == bytes(b.cast(), len)
                }
            }
            _ => value_ref(a).same(&value_ref(b)),
        }
    }
}

/// The word SQL users know for a storage class, for error messages.
pub(crate) fn storage_class(value: &ValueRef<'_>) -> &'static str {
    match value {
        ValueRef::Null => "NULL",
        ValueRef::Integer(_) => "an integer",
        ValueRef::Real(_) => "a real",
        ValueRef::Text(_) => "text",
        ValueRef::Blob(_) => "a blob",
    }
}

/// # Safety
/// `value` is a protected value that stays valid during `'a`. Its content is read by its own storage class
/// only, so no later read converts it in place and pulls the bytes from under this reference.
#[inline]
pub(super) unsafe fn value_ref<'a>(value: *mut ffi::sqlite3_value) -> ValueRef<'a> {
    // SAFETY: by this function's contract. The length is asked for first, because asking for it is what converts
    // UTF-16; the text is then taken as it lies, since asking for it as a text would copy it for a terminator.
    unsafe {
        match ffi::sqlite3_value_type(value) {
            ffi::SQLITE_INTEGER => ValueRef::Integer(ffi::sqlite3_value_int64(value)),
            ffi::SQLITE_FLOAT => ValueRef::Real(ffi::sqlite3_value_double(value)),
            ffi::SQLITE_TEXT => {
                let len = ffi::sqlite3_value_bytes(value);
                if len == 0 {
                    // Empty, or SQLite could not allocate: then the text is null.
                    not_null(ffi::sqlite3_value_text(value));
                }
                ValueRef::Text(bytes(ffi::sqlite3_value_blob(value).cast(), len))
            }
            ffi::SQLITE_BLOB => {
                let blob = ffi::sqlite3_value_blob(value).cast();
                ValueRef::Blob(bytes(blob, ffi::sqlite3_value_bytes(value)))
            }
            _ => ValueRef::Null,
        }
    }
}

/// The bytes of a text or a blob.
///
/// # Safety
/// `start` is null or points at `len` bytes that stay valid during `'a`.
#[inline]
pub(super) unsafe fn bytes<'a>(start: *const u8, len: i32) -> &'a [u8] {
    if len <= 0 {
        return &[];
    }
    // SAFETY: by this function's contract.
    unsafe { slice::from_raw_parts(not_null(start), len as usize) }
}

/// SQLite answers null for a text, or for a blob that is not empty, only when it could not allocate. Reading
/// on with an empty value would write that value somewhere, so the callback is left at once.
#[inline]
pub(super) fn not_null(start: *const u8) -> *const u8 {
    if start.is_null() {
        out_of_memory();
    }
    start
}

#[cold]
fn out_of_memory() -> ! {
    // Not `panic!`: the panic hook would report it, and it is not a defect. `guard` makes an error of it.
    std::panic::resume_unwind(Box::new(OutOfMemory))
}

/// What an allocation failure of SQLite unwinds with.
pub(super) struct OutOfMemory;

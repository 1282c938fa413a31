//! What kind of value a replicated column holds, which decides how two writes of it meet.
//!
//! A column of a type other than [`ColumnType::Register`] holds two kinds of cells: a register like any other, its
//! **base**, written while the column was one; and cells of its type, which all writes since have gone to. The base
//! table shows what they make together: [`show`]. The cells of a type have a name of their own, `counter(n)` for
//! those of a counter `n`, so that a replica whose column is still a register parks them as of a column that it does
//! not know, and never takes one for the other.
//!
//! A counter has one cell for each site that ever added to it in this incarnation of the row, its **part**: the sum
//! of what that site added. Only that site writes it.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;

use crate::ids::SiteId;
use crate::merge::{CellClock, TieBreak, cell_wins_by_value};
use crate::value::{Value, ValueRef};

/// How a column merges. What is not declared is a register.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ColumnType {
    /// The greater order wins; see [`crate::merge`].
    #[default]
    Register,
    /// Numbers to which every site adds: the column shows the sum.
    Counter,
    /// The greatest value written in this incarnation of the row.
    Max,
    /// The least value written in this incarnation of the row, NULL not counted.
    Min,
    /// What everybody typed, character by character: see the module `text`, which comes with the feature of that name.
    Text,
}

/// How many cells each site has of a text column.
pub const TEXT_LEVELS: usize = 4;

/// What the cells of a text are called, by level.
const TEXT_WORDS: [&str; TEXT_LEVELS] = ["text", "textb", "textc", "textd"];

impl ColumnType {
    /// All of them.
    pub const ALL: [ColumnType; 5] =
        [ColumnType::Register, ColumnType::Counter, ColumnType::Max, ColumnType::Min, ColumnType::Text];

    /// The word that stands for it in declarations and in a `cid`.
    pub fn name(self) -> &'static str {
        match self {
            ColumnType::Register => "register",
            ColumnType::Counter => "counter",
            ColumnType::Max => "max",
            ColumnType::Min => "min",
            ColumnType::Text => "text",
        }
    }

    /// The type that a word stands for.
    pub fn of_name(name: &str) -> Option<ColumnType> {
        ColumnType::ALL.into_iter().find(|known| known.name() == name)
    }

    /// Whether a column of this type has cells for each site.
    pub fn is_parted(self) -> bool {
        matches!(self, ColumnType::Counter | ColumnType::Text)
    }

    /// How many cells a column of this type has, for each site where it is parted.
    pub fn levels(self) -> usize {
        if self == ColumnType::Text { TEXT_LEVELS } else { 1 }
    }

    /// What the cells of a level of the column `name` are called: [`cell_name`](Self::cell_name) is level 0.
    pub fn level_name(self, name: &str, level: usize) -> Cow<'_, str> {
        match TEXT_WORDS.get(level) {
            Some(word) if self == ColumnType::Text => Cow::Owned(format!("{word}({name})")),
            _ => self.cell_name(name),
        }
    }

    /// The level of the cells called `cell`.
    pub fn level_of_cell(cell: &str) -> usize {
        let word = cell.split_once('(').map(|(word, _)| word);
        TEXT_WORDS.iter().position(|known| Some(*known) == word).unwrap_or(0)
    }

    /// Whether the cells called `cell` are of this type of the column `name`.
    pub fn has_cell(self, name: &str, cell: &str) -> bool {
        (0..self.levels()).any(|level| self.level_name(name, level) == cell)
    }

    /// What the cells of this type of the column `name` are called among replicas.
    ///
    /// ```
    /// # use crsql_core::column::*;
    /// assert_eq!(ColumnType::Counter.cell_name("n"), "counter(n)");
    /// assert_eq!(ColumnType::Register.cell_name("n"), "n");
    /// // A register that is called like a counter's cells is quoted.
    /// assert_eq!(ColumnType::Register.cell_name("counter(n)"), "\"counter(n)\"");
    /// ```
    pub fn cell_name(self, name: &str) -> Cow<'_, str> {
        match self {
            ColumnType::Register if is_call(name.trim_matches('"')) => Cow::Owned(format!("\"{name}\"")),
            ColumnType::Register => Cow::Borrowed(name),
            _ => Cow::Owned(format!("{self}({name})")),
        }
    }

    /// The type of the cells called `cell`. Types that only a later version knows pass for registers; nothing here
    /// is called so, and they are parked.
    pub fn of_cell(cell: &str) -> ColumnType {
        let word = cell.split_once('(').filter(|(_, rest)| rest.ends_with(')')).map(|(word, _)| word);
        match word {
            Some(word) if TEXT_WORDS.contains(&word) => ColumnType::Text,
            _ => word.and_then(ColumnType::of_name).unwrap_or_default(),
        }
    }
}

/// Whether a name looks like `word(…)`, which is how the cells of a type are called.
fn is_call(name: &str) -> bool {
    let Some((word, rest)) = name.split_once('(') else { return false };
    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase()) && rest.ends_with(')')
}

impl fmt::Display for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Whether a remote cell of a column beats the local one of the same incarnation: of a counter, the one of the same
/// site. The whole of what decides between two cells.
pub fn cell_beats(
    kind: ColumnType,
    local: Option<(&CellClock, ValueRef<'_>)>,
    remote: (&CellClock, ValueRef<'_>),
    tie: TieBreak,
) -> bool {
    let (Some((_, local_value)), ColumnType::Max | ColumnType::Min) = (local, kind) else {
        return cell_wins_by_value(local, remote, tie);
    };
    match rank(kind, remote.1, local_value) {
        Ordering::Greater => true,
        Ordering::Less => false,
        // Values that count as equal, 1 and 1.0, are told apart by who wrote them.
        Ordering::Equal => cell_wins_by_value(local, remote, TieBreak::Site),
    }
}

/// Whether a local write of `new` over what the column shows is a write at all: a max column only grows.
pub fn is_write(kind: ColumnType, shown: ValueRef<'_>, new: ValueRef<'_>) -> bool {
    match kind {
        ColumnType::Register | ColumnType::Counter | ColumnType::Text => !shown.same(&new),
        ColumnType::Max | ColumnType::Min => rank(kind, new, shown).is_gt(),
    }
}

/// The order of values in a max or min column: the greater one is shown.
fn rank(kind: ColumnType, a: ValueRef<'_>, b: ValueRef<'_>) -> Ordering {
    match (kind, a, b) {
        // NULL is no value, so that a least value is not NULL for ever.
        (ColumnType::Min, ValueRef::Null, _) | (ColumnType::Min, _, ValueRef::Null) => cmp_as_sql(a, b),
        (ColumnType::Min, ..) => cmp_as_sql(b, a),
        _ => cmp_as_sql(a, b),
    }
}

/// SQLite's order of values: NULL, numbers by size whatever their class, texts by `memcmp`, blobs.
pub fn cmp_as_sql(a: ValueRef<'_>, b: ValueRef<'_>) -> Ordering {
    fn class(value: ValueRef<'_>) -> u8 {
        match value {
            ValueRef::Null => 0,
            ValueRef::Integer(_) | ValueRef::Real(_) => 1,
            ValueRef::Text(_) => 2,
            ValueRef::Blob(_) => 3,
        }
    }
    match (a.storable(), b.storable()) {
        (ValueRef::Integer(a), ValueRef::Real(b)) => cmp_numbers(a, b),
        (ValueRef::Real(a), ValueRef::Integer(b)) => cmp_numbers(b, a).reverse(),
        (a, b) if class(a) == class(b) => a.cmp_by_content(&b),
        (a, b) => class(a).cmp(&class(b)),
    }
}

/// An integer beside a real, exactly.
fn cmp_numbers(integer: i64, real: f64) -> Ordering {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    if real >= LIMIT {
        return Ordering::Less;
    }
    if real < -LIMIT {
        return Ordering::Greater;
    }
    // In range, so the whole part is an integer exactly.
    let whole = real.trunc();
    integer.cmp(&(whole as i64)).then_with(|| 0.0f64.partial_cmp(&(real - whole)).unwrap_or(Ordering::Equal))
}

/// What a column shows: its base, if it has one, and the cells of its type. `None` when it has neither, and shows its
/// default.
///
/// A single cell is shown as it is. A counter adds up the others: integers exactly, and past the range of 64 bits the
/// end of that range is shown; as soon as one of the cells is a REAL the sum is, and then they are added in the order
/// of their sites, so that all replicas round alike. What is no number counts as nothing.
pub fn show(kind: ColumnType, base: Option<&Value>, cells: &[(SiteId, Value)]) -> Option<Value> {
    let alone = match (base, cells) {
        (base, []) => return base.cloned(),
        (None, [(_, cell)]) => Some(cell),
        _ => None,
    };
    if let Some(alone) = alone {
        return Some(alone.clone());
    }
    let all = base.into_iter().chain(cells.iter().map(|(_, value)| value));
    match kind {
        ColumnType::Counter => Some(sum(base, cells)),
        // A text is made of more than the newest values: see `text::show`.
        ColumnType::Register | ColumnType::Text => base.cloned(),
        ColumnType::Max | ColumnType::Min => all
            .fold(None, |best: Option<&Value>, value| match best {
                Some(best) if !rank(kind, value.as_ref(), best.as_ref()).is_gt() => Some(best),
                _ => Some(value),
            })
            .cloned(),
    }
}

fn sum(base: Option<&Value>, parts: &[(SiteId, Value)]) -> Value {
    let mut parts: Vec<&(SiteId, Value)> = parts.iter().collect();
    parts.sort_by_key(|(site, _)| *site);
    let (mut whole, mut real, mut has_real) = (0i128, 0f64, false);
    for value in base.into_iter().chain(parts.into_iter().map(|(_, value)| value)) {
        match value {
            Value::Integer(value) => whole += i128::from(*value),
            Value::Real(value) => (real, has_real) = (real + value, true),
            _ => {}
        }
    }
    match has_real {
        false => Value::Integer(clamped(whole)),
        // Infinities of both signs make no number.
        true => Value::Real(Some(whole as f64 + real).filter(|sum| !sum.is_nan()).unwrap_or(0.0)),
    }
}

fn clamped(sum: i128) -> i64 {
    sum.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
}

/// The part of a site after a local write that changed what its counter shows from `shown` to `new`: what it added
/// before, and the difference. `is_alone` tells that nothing but this site's part is shown.
///
/// A part past the range of 64 bits stays at its end.
pub fn count(own: Option<&Value>, is_alone: bool, shown: ValueRef<'_>, new: ValueRef<'_>) -> Value {
    if is_alone {
        return new.to_owned_value();
    }
    let own = own.map_or(ValueRef::Integer(0), Value::as_ref);
    if let (ValueRef::Integer(own), ValueRef::Integer(new)) = (own, new)
        && let ValueRef::Integer(_) | ValueRef::Null | ValueRef::Text(_) | ValueRef::Blob(_) = shown
    {
        let shown = if let ValueRef::Integer(shown) = shown { shown } else { 0 };
        return Value::Integer(clamped(i128::from(own) + i128::from(new) - i128::from(shown)));
    }
    let real = |value: ValueRef<'_>| match value {
        ValueRef::Integer(value) => value as f64,
        ValueRef::Real(value) => value,
        _ => 0.0,
    };
    let total = real(own) + (real(new) - real(shown));
    Value::Real(if total.is_nan() { 0.0 } else { total })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SITES: [SiteId; 3] = [SiteId([1; 16]), SiteId([2; 16]), SiteId([3; 16])];

    fn cells(values: &[Value]) -> Vec<(SiteId, Value)> {
        SITES.into_iter().zip(values.iter().cloned()).collect()
    }

    #[test]
    fn names_of_cells_tell_their_type_and_no_register_is_mistaken() {
        for name in
            ["n", "", "a(b", "counter(n)", "\"counter(n)\"", "f()", "Count(x)", "max(max(x))", "-1", "(x)"]
        {
            let register = ColumnType::Register.cell_name(name);
            assert_eq!(ColumnType::of_cell(&register), ColumnType::Register, "{register}");
            for kind in ColumnType::ALL {
                assert_eq!(ColumnType::of_cell(&kind.cell_name(name)), kind, "{kind} {name}");
                assert_eq!(kind == ColumnType::Register, kind.cell_name(name) == register);
            }
        }
        assert_ne!(
            ColumnType::Register.cell_name("\"counter(n)\""),
            ColumnType::Register.cell_name("counter(n)"),
        );
        assert_eq!(ColumnType::of_cell("set(x)"), ColumnType::Register, "a later version's");
    }

    #[test]
    fn a_counter_shows_the_sum_and_what_is_no_number_counts_as_nothing() {
        let show =
            |base: Option<Value>, parts: &[Value]| show(ColumnType::Counter, base.as_ref(), &cells(parts));
        assert_eq!(show(None, &[]), None);
        assert_eq!(show(None, &[7.into()]), Some(7.into()));
        assert_eq!(show(Some("x".into()), &[]), Some("x".into()), "a base alone is shown as it is");
        assert_eq!(show(Some("x".into()), &[2.into()]), Some(2.into()));
        assert_eq!(show(Some(10.into()), &[(-3).into(), 1.into()]), Some(8.into()));
        assert_eq!(
            show(None, &[i64::MAX.into(), i64::MAX.into(), i64::MIN.into()]),
            Some((i64::MAX - 1).into())
        );
        assert_eq!(show(None, &[i64::MAX.into(), 1.into()]), Some(i64::MAX.into()));
        assert_eq!(show(None, &[1.into(), 0.5.into()]), Some(1.5.into()));
        let infinite = [Value::Real(f64::INFINITY), Value::Real(f64::NEG_INFINITY)];
        assert_eq!(show(None, &infinite), Some(0.0.into()));
    }

    #[test]
    fn the_order_of_arrival_does_not_change_a_sum_of_reals() {
        let mut parts = cells(&[0.1.into(), 0.2.into(), 0.3.into()]);
        let sum = show(ColumnType::Counter, None, &parts);
        parts.rotate_left(1);
        assert_eq!(show(ColumnType::Counter, None, &parts), sum);
        parts.swap(0, 1);
        assert_eq!(show(ColumnType::Counter, None, &parts), sum);
    }

    #[test]
    fn reals_are_counted_as_such_and_infinities_never_make_no_number() {
        let count = |own: f64, shown: Value, new: Value| {
            count(Some(&Value::Real(own)), false, shown.as_ref(), new.as_ref())
        };
        assert_eq!(count(1.5, 2.into(), 4.into()), 3.5.into());
        assert_eq!(count(f64::INFINITY, Value::Real(f64::INFINITY), 0.into()), 0.0.into());
        let own = Value::Integer(4);
        let of_nothing = super::count(Some(&own), false, ValueRef::Null, ValueRef::Integer(2));
        assert_eq!(of_nothing, 6.into());
        let of_real = super::count(Some(&own), false, ValueRef::Real(0.5), ValueRef::Integer(2));
        assert_eq!(of_real, 5.5.into(), "what was shown is a real");
    }

    #[test]
    fn a_local_write_adds_its_difference_to_the_sites_part() {
        let count = |own: Option<i64>, shown: i64, new: i64| {
            count(own.map(Value::from).as_ref(), false, ValueRef::Integer(shown), ValueRef::Integer(new))
        };
        assert_eq!(count(Some(5), 12, 13), 6.into());
        assert_eq!(count(None, 12, 0), (-12).into());
        assert_eq!(count(Some(i64::MAX), 0, 5), i64::MAX.into());
        assert_eq!(super::count(None, true, ValueRef::Integer(0), ValueRef::Real(0.1)), 0.1.into());
        let real = super::count(Some(&1.into()), false, ValueRef::Integer(3), ValueRef::Real(3.5));
        assert_eq!(real, 1.5.into());
    }

    #[test]
    fn values_are_ordered_as_sqlite_orders_them() {
        let ascending = [
            Value::Null,
            f64::NEG_INFINITY.into(),
            i64::MIN.into(),
            (-1).into(),
            (-0.5).into(),
            0.into(),
            0.5.into(),
            1.into(),
            9_007_199_254_740_993.into(),
            9_007_199_254_740_994.0.into(),
            i64::MAX.into(),
            9_223_372_036_854_775_808.0.into(),
            "".into(),
            "a".into(),
            Value::Blob(vec![]),
        ];
        for (i, a) in ascending.iter().enumerate() {
            for (j, b) in ascending.iter().enumerate() {
                assert_eq!(cmp_as_sql(a.as_ref(), b.as_ref()), i.cmp(&j), "{a:?} {b:?}");
            }
        }
        assert_eq!(cmp_as_sql(ValueRef::Integer(1), ValueRef::Real(1.0)), Ordering::Equal);
    }

    #[test]
    fn max_and_min_show_the_outermost_value_and_null_only_when_alone() {
        let values = cells(&[2.into(), Value::Null]);
        let base = Value::from(1);
        assert_eq!(show(ColumnType::Max, Some(&base), &values), Some(2.into()));
        assert_eq!(show(ColumnType::Min, Some(&base), &values), Some(1.into()));
        assert_eq!(show(ColumnType::Min, Some(&Value::Null), &values[..1]), Some(2.into()));
        let is_write = |kind, shown: i64, new: i64| is_write(kind, shown.into_ref(), new.into_ref());
        assert!(is_write(ColumnType::Max, 1, 2) && !is_write(ColumnType::Max, 2, 2));
        assert!(is_write(ColumnType::Min, 2, 1) && !is_write(ColumnType::Min, 1, 2));
    }

    trait IntoRef {
        fn into_ref(self) -> ValueRef<'static>;
    }

    impl IntoRef for i64 {
        fn into_ref(self) -> ValueRef<'static> {
            ValueRef::Integer(self)
        }
    }
}

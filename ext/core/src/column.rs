//! What kind of value a replicated column holds, which decides how two writes of it meet.

use std::fmt;

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
    /// The least value written in this incarnation of the row.
    Min,
}

impl ColumnType {
    /// All of them.
    pub const ALL: [ColumnType; 4] =
        [ColumnType::Register, ColumnType::Counter, ColumnType::Max, ColumnType::Min];

    /// The word that stands for it in declarations and in a `cid`.
    pub fn name(self) -> &'static str {
        match self {
            ColumnType::Register => "register",
            ColumnType::Counter => "counter",
            ColumnType::Max => "max",
            ColumnType::Min => "min",
        }
    }

    /// The type that a word stands for.
    pub fn of_name(name: &str) -> Option<ColumnType> {
        ColumnType::ALL.into_iter().find(|known| known.name() == name)
    }
}

impl fmt::Display for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

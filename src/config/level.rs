//! How much an operator may do.
//!
//! Context: the constructor reads the option `level`; the shell compares.

#![forbid(unsafe_code)]

/// What a command needs and a session has; a higher level includes the lower ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Look: nothing of the application is changed, and none of its code runs, but for `malloc`, which asks the allocator.
    Observe,
    /// What an operator also has outside: signals, priorities, limits; what the application offers as commands.
    Operate,
    /// Change the application from inside: memory, descriptors, calls.
    Admin,
}

impl Level {
    /// All, from the lowest.
    pub const ALL: [Self; 3] = [Self::Observe, Self::Operate, Self::Admin];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Operate => "operate",
            Self::Admin => "admin",
        }
    }

    /// The level of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.name() == name)
    }
}

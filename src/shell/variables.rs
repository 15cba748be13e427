//! The variables that the application gave names to.
//!
//! Context: threads of the application register and unregister; the observer reads. A name is only a name: whether
//! there is memory behind the address shows when it is read, by calls that fail instead of faulting.

#![forbid(unsafe_code)]

use crate::sys::slots::{NotAdded, Slots};

/// Variables at most.
pub const MOST: usize = 1024;

/// A variable of the application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// An identifier.
    pub name: String,
    /// Where it is.
    pub address: u64,
    /// Its bytes, 0 if nobody knows.
    pub size: u64,
}

static VARIABLES: Slots<Variable, MOST> = Slots::new();

/// Adds one, unless there is one of that name.
pub fn add(variable: Variable) -> Result<(), NotAdded> {
    let name = variable.name.clone();
    VARIABLES.add(variable, |other| other.name == name)
}

/// Removes one; false when there is none of that name.
pub fn remove(name: &str) -> bool {
    VARIABLES.remove(|variable| variable.name == name, |_| Ok::<(), std::convert::Infallible>(())).unwrap_or(false)
}

/// All of them, by name.
pub fn all() -> Vec<Variable> {
    let mut all: Vec<Variable> = VARIABLES.iter().map(|variable| variable.clone()).collect();
    all.sort_by(|left, right| left.name.cmp(&right.name));
    all
}

/// In a forked child, which keeps them.
pub fn reset_in_child() {
    VARIABLES.reset_in_child();
}

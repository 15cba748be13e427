//! The variables that the application gave names to.
//!
//! Context: threads of the application register and unregister; the observer reads. A name is only a name: whether
//! there is memory behind the address shows when it is read, by calls that fail instead of faulting.

#![forbid(unsafe_code)]

use crate::config::locals::{Local, Target};
use crate::sys::fork::Child;
use crate::sys::slots::{NotAdded, Slots};

/// Variables at most.
pub const MOST: usize = 1024;

/// A variable of the application.
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

/// The operator's `locals`, then these by name, but for those whose name the operator took.
pub fn beside(locals: &[Local]) -> Vec<Local> {
    let mut all: Vec<Local> = VARIABLES
        .iter()
        .filter(|variable| locals.iter().all(|local| local.name != variable.name))
        .map(|it| Local { name: it.name.clone(), value: Target::Variable(it.address, it.size) })
        .collect();
    all.sort_by(|left, right| left.name.cmp(&right.name));
    locals.iter().cloned().chain(all).collect()
}

/// In a forked child, which keeps them.
pub fn reset_in_child(child: Child) {
    VARIABLES.reset_in_child(child);
}

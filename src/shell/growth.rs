//! What `mem` found the last time, to say what has grown since.
//!
//! Context: the observer. A few figures a client; `manhole-cli -c mem` is a new client each time, so who asks for the
//! first time is told the growth since anybody's last look.

#![forbid(unsafe_code)]

use crate::inspect::memory::Kind;

/// Clients that are remembered.
const MOST: usize = 64;

/// Figures of one moment, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Nanoseconds of the monotonic clock.
    pub at: u64,
    /// In memory.
    pub resident: u64,
    /// In memory, shared pages divided by their users; only after a walk.
    pub proportional: Option<u64>,
    /// Mapped, in memory or not.
    pub size: u64,
    /// In memory, in the order of [`Kind::ALL`]; only after a walk.
    pub by_kind: Option<[u64; Kind::ALL.len()]>,
    /// Page faults that needed no reading, and that did.
    pub faults: [u64; 2],
}

/// The last figures of each client, the latest at the end.
#[derive(Clone, Debug, Default)]
pub struct Past {
    looks: Vec<(u64, Figures)>,
}

impl Past {
    /// What `client` saw the last time, or else whoever looked last; and whether it was `client`.
    pub fn last(&self, client: u64) -> Option<(Figures, bool)> {
        let own = self.looks.iter().find(|(number, _)| *number == client);
        let (number, figures) = own.or(self.looks.last())?;
        Some((*figures, *number == client))
    }

    /// Remembers what `client` saw.
    pub fn keep(&mut self, client: u64, figures: Figures) {
        self.looks.retain(|(number, _)| *number != client);
        if self.looks.len() >= MOST {
            self.looks.remove(0);
        }
        self.looks.push((client, figures));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_has_its_own_last_look() {
        let mut past = Past::default();
        assert_eq!(past.last(1), None);
        let figures = |resident| Figures { resident, ..Figures::default() };
        past.keep(1, figures(10));
        past.keep(2, figures(20));
        assert_eq!(past.last(1), Some((figures(10), true)));
        assert_eq!(past.last(3), Some((figures(20), false)));
        past.keep(1, figures(11));
        assert_eq!(past.last(3), Some((figures(11), false)));
        (10..200).for_each(|client| past.keep(client, figures(client)));
        assert_eq!((past.looks.len(), past.last(1)), (MOST, Some((figures(199), false))));
    }
}

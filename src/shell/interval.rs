//! Waiting for a while in steps: what a command does that looks twice.
//!
//! Context: the observer, which serves others meanwhile.

#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use super::Step;

/// How often a person hears how far it is.
const REMARKS: Duration = Duration::from_secs(5);

/// A time that passes.
#[derive(Clone, Copy, Debug)]
pub struct Interval {
    from: Instant,
    until: Instant,
    remark: Instant,
}

impl Interval {
    /// From now on.
    pub fn of(length: Duration) -> Self {
        let now = Instant::now();
        Self { from: now, until: now + length, remark: now + REMARKS }
    }

    /// When it ends.
    pub fn end(&self) -> Instant {
        self.until
    }

    /// How much of it has passed.
    pub fn elapsed(&self) -> Duration {
        Instant::now().min(self.until).saturating_duration_since(self.from)
    }

    /// What a job answers that has nothing to do before it is over; `None` when it is.
    pub fn wait(&mut self) -> Option<Step> {
        if Instant::now() >= self.until {
            return None;
        }
        Some(self.remark().unwrap_or(Step::Waiting(self.until.min(self.remark))))
    }

    /// How far it is, when it is time to say that.
    pub fn remark(&mut self) -> Option<Step> {
        let now = Instant::now();
        // Not in its last second: the answer itself comes then.
        if now < self.remark || now + Duration::from_secs(1) > self.until {
            return None;
        }
        self.remark = now + REMARKS;
        let (passed, all) = (self.elapsed().as_secs_f64(), (self.until - self.from).as_secs_f64());
        Some(Step::Remark(format!("{passed:.0} of {all:.0} s; ^C ends it")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_waits_until_it_is_over() {
        let mut short = Interval::of(Duration::from_millis(2));
        while let Some(step) = short.wait() {
            assert!(matches!(step, Step::Waiting(until) if until == short.end()));
        }
        assert_eq!(short.elapsed(), Duration::from_millis(2));
        let now = Instant::now();
        let mut long = Interval { from: now, until: now + Duration::from_secs(100), remark: now };
        assert!(matches!(long.wait(), Some(Step::Remark(text)) if text == "0 of 100 s; ^C ends it"));
        assert!(matches!(long.wait(), Some(Step::Waiting(until)) if until == long.remark));
    }
}

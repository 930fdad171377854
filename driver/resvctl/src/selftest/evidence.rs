//! What a check reads and claims, and the one place where that becomes a result.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Failure;
use crate::machine::{Answer, Win32};

/// What comes of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The sentence holds on this machine.
    Holds,
    /// It does not.
    DoesNotHold,
    /// It can't be told here.
    CannotTell,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Holds => "holds",
            Self::DoesNotHold => "does not hold",
            Self::CannotTell => "can't be told",
        })
    }
}

/// Something that was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Read {
    pub name: String,
    pub value: String,
}

/// Why a check can't go on.
#[derive(Clone, Debug)]
pub struct Untold(pub String);

impl Untold {
    /// Windows did not say something.
    pub fn of(what: impl fmt::Display) -> impl FnOnce(Win32) -> Self {
        move |error| Self(format!("{what}: {error}"))
    }
}

impl From<Failure> for Untold {
    fn from(failure: Failure) -> Self {
        Self(failure.says)
    }
}

/// How a request ended, in words.
pub fn said<T>(answer: Answer<T>) -> String {
    answer.map_or_else(|error| error.to_string(), |_| "success".into())
}

/// How a check ends; what it found is in its evidence.
pub type Found = Result<(), Untold>;

/// Ends a check that can't tell.
pub fn untold<T>(why: impl fmt::Display) -> Result<T, Untold> {
    Err(Untold(why.to_string()))
}

/// What a check read, and what it claims of it.
#[derive(Default)]
pub struct Evidence {
    read: Vec<Read>,
    claims: usize,
    broken: Vec<String>,
}

impl Evidence {
    /// Notes what was read.
    pub fn saw(&mut self, name: impl fmt::Display, value: impl fmt::Display) {
        let (name, value) = (name.to_string(), value.to_string());
        self.read.push(Read { name, value });
    }

    /// Something that holds if the sentence does, and what is said if it does not.
    pub fn claim(&mut self, holds: bool, otherwise: impl fmt::Display) {
        self.claims += 1;
        if !holds {
            self.broken.push(otherwise.to_string());
        }
    }

    /// Notes what was read, and claims that it is what it should be.
    #[allow(
        clippy::needless_pass_by_value,
        reason = "a number or a text that was made for it"
    )]
    pub fn same<T: PartialEq + fmt::Display>(
        &mut self,
        name: impl fmt::Display,
        found: T,
        wanted: T,
    ) {
        self.saw(&name, &found);
        self.claim(
            found == wanted,
            format_args!("{name} is {found}, not {wanted}"),
        );
    }

    /// A broken claim outweighs what could not be told, and that outweighs what holds. Who claims nothing tells nothing.
    pub fn judge(self, found: Found) -> (Outcome, Option<String>, Vec<Read>) {
        let (outcome, why) = match found {
            _ if !self.broken.is_empty() => (Outcome::DoesNotHold, Some(self.broken.join("; "))),
            Err(Untold(why)) => (Outcome::CannotTell, Some(why)),
            Ok(()) if self.claims == 0 => {
                (Outcome::CannotTell, Some("nothing here tells".to_owned()))
            }
            Ok(()) => (Outcome::Holds, None),
        };
        (outcome, why, self.read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_broken_outweighs_what_is_untold_and_no_claim_holds_nothing() {
        let judged = |claims: &[bool], found: Found| {
            let mut evidence = Evidence::default();
            for holds in claims {
                evidence.claim(*holds, "broken");
            }
            evidence.judge(found).0
        };
        for (claims, told, outcome) in [
            (&[][..], true, Outcome::CannotTell),
            (&[], false, Outcome::CannotTell),
            (&[true], true, Outcome::Holds),
            (&[true], false, Outcome::CannotTell),
            (&[true, false], true, Outcome::DoesNotHold),
            (&[false, true], false, Outcome::DoesNotHold),
        ] {
            let found = if told { Ok(()) } else { untold("why") };
            assert_eq!(judged(claims, found), outcome, "{claims:?}, {told}");
        }
    }
}

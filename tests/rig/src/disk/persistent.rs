//! Persistent reservations of a logical unit (SPC-4 5.12, 6.15, 6.16): registrations, the one reservation, and what they
//! let through.
//!
//! A registration is an initiator's, on all of its nexuses, and outlives them. No PREEMPT, no SPEC_I_PT, ALL_TG_PT or
//! APTPL: a power cycle forgets everything.

use std::collections::BTreeMap;

use super::{ILLEGAL_REQUEST, Sense, UNIT_ATTENTION};

const INVALID_FIELD_IN_CDB: Sense = Sense::new(ILLEGAL_REQUEST, 0x24, 0x00);
const PARAMETER_LIST_LENGTH_ERROR: Sense = Sense::new(ILLEGAL_REQUEST, 0x1A, 0x00);
const INVALID_RELEASE: Sense = Sense::new(ILLEGAL_REQUEST, 0x26, 0x04);

/// Reported to the other registrants: SPC-4 5.12.11.
pub(super) const RESERVATIONS_PREEMPTED: Sense = Sense::new(UNIT_ATTENTION, 0x2A, 0x03);
/// As above, when a reservation that registrants shared is released.
pub(super) const RESERVATIONS_RELEASED: Sense = Sense::new(UNIT_ATTENTION, 0x2A, 0x04);

/// The parameter list of PERSISTENT RESERVE OUT: SPC-4 6.16.3.
const PARAMETER_LIST: usize = 24;

/// What a unit with registrants makes of RESERVE and RELEASE.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Handling {
    /// Both conflict, whoever sends them: SPC-2 5.5.1.
    #[default]
    Spc2,
    /// Both get GOOD and do nothing from the holder, and from a registrant of a registrants-only or all-registrants
    /// reservation; else as SPC-2 says. "Compatible reservation handling", CRH: SPC-4 5.12.3.
    Compatible,
}

/// The types of a persistent reservation: SPC-4 6.15.3.4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Type(u8);

impl Type {
    fn of(code: u8) -> Option<Self> {
        matches!(code, 1 | 3 | 5 | 6 | 7 | 8).then_some(Self(code))
    }

    /// Reads conflict, too.
    const fn excludes_reads(self) -> bool {
        matches!(self.0, 3 | 6 | 8)
    }

    /// Every registrant has the holder's access.
    const fn admits_registrants(self) -> bool {
        matches!(self.0, 5..=8)
    }

    /// Every registrant is a holder.
    const fn is_all_registrants(self) -> bool {
        matches!(self.0, 7 | 8)
    }
}

/// How a command gets on with a persistent reservation of another: SPC-4 table 50.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// It is let through by all.
    Free,
    /// It reads.
    Read,
    /// It writes, or changes the unit.
    Write,
}

/// Why PERSISTENT RESERVE OUT was not done.
pub(super) enum Refusal {
    /// RESERVATION CONFLICT.
    Conflict,
    /// CHECK CONDITION.
    Check(Sense),
}

/// What is told of a PERSISTENT RESERVE OUT, and to which other registrants.
pub(super) struct Told {
    pub event: Sense,
    pub whom: Vec<String>,
}

impl Told {
    const NOBODY: Self = Self {
        event: RESERVATIONS_RELEASED,
        whom: Vec::new(),
    };
}

/// The registrations and the reservation of a unit.
#[derive(Debug, Default)]
pub(super) struct Persistent {
    generation: u32,
    keys: BTreeMap<String, u64>,
    /// Its holder, whose name counts for nothing with the all-registrants types.
    reservation: Option<(String, Type)>,
}

impl Persistent {
    /// Whether anybody is registered.
    pub fn has_registrants(&self) -> bool {
        !self.keys.is_empty()
    }

    /// Whether the initiator has the rights of the reservation, if there is one.
    pub fn admits(&self, initiator: &str) -> bool {
        self.reservation.as_ref().is_none_or(|(holder, kind)| {
            holder == initiator && !kind.is_all_registrants()
                || kind.admits_registrants() && self.keys.contains_key(initiator)
        })
    }

    /// Whether a command of this initiator's conflicts.
    pub fn conflicts(&self, initiator: &str, access: Access) -> bool {
        let Some((_, kind)) = &self.reservation else {
            return false;
        };
        let refused = match access {
            Access::Free => false,
            Access::Read => kind.excludes_reads(),
            Access::Write => true,
        };
        refused && !self.admits(initiator)
    }

    /// What becomes of a RESERVE or RELEASE: `None` if it is SPC-2's affair, else whether it conflicts.
    pub fn meets_reserve(&self, initiator: &str, handling: Handling) -> Option<bool> {
        if !self.has_registrants() {
            return None;
        }
        let exempt = self.reservation.is_some() && self.admits(initiator);
        Some(handling == Handling::Spc2 || !exempt)
    }

    /// PERSISTENT RESERVE IN.
    pub fn read(&self, cdb: &[u8], handling: Handling) -> Result<Vec<u8>, Sense> {
        let with_length = |body: Vec<u8>| {
            let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
            [
                &self.generation.to_be_bytes()[..],
                &length.to_be_bytes(),
                &body,
            ]
            .concat()
        };
        Ok(match cdb[1] & 0x1F {
            // READ KEYS
            0 => with_length(
                self.keys
                    .values()
                    .flat_map(|key| key.to_be_bytes())
                    .collect(),
            ),
            // READ RESERVATION: nothing behind the header where there is none.
            1 => with_length(
                self.reservation
                    .as_ref()
                    .map_or_else(Vec::new, |(holder, kind)| {
                        let shared = kind.is_all_registrants();
                        let key = self.keys.get(holder).filter(|_| !shared).copied();
                        let key = key.unwrap_or(0).to_be_bytes();
                        [&key[..], &[0, 0, 0, 0, 0, kind.0, 0, 0]].concat()
                    }),
            ),
            // REPORT CAPABILITIES: CRH, and the mask of all six types.
            2 => {
                let crh = u8::from(handling == Handling::Compatible) << 4;
                vec![0, 8, crh, 0x80, 0xEA, 0x01, 0, 0]
            }
            _ => return Err(INVALID_FIELD_IN_CDB),
        })
    }

    /// PERSISTENT RESERVE OUT.
    pub fn write(&mut self, initiator: &str, cdb: &[u8], list: &[u8]) -> Result<Told, Refusal> {
        let Some(list) = list.first_chunk::<PARAMETER_LIST>() else {
            return Err(Refusal::Check(PARAMETER_LIST_LENGTH_ERROR));
        };
        let key_at = |at: usize| u64::from_be_bytes(std::array::from_fn(|byte| list[at + byte]));
        let (key, new_key) = (key_at(0), key_at(8));
        let own = self.keys.get(initiator).copied();
        match (cdb[1] & 0x1F, own) {
            // REGISTER: the key that is there, or 0 where there is none.
            (0, _) if own.unwrap_or(0) == key => Ok(self.register(initiator, new_key)),
            // REGISTER AND IGNORE EXISTING KEY
            (6, _) => Ok(self.register(initiator, new_key)),
            (1..=3, Some(own)) if own == key => match (cdb[1] & 0x1F, Type::of(cdb[2])) {
                (1, Some(kind)) => self.reserve(initiator, kind),
                (2, Some(kind)) => self.release(initiator, kind),
                (3, _) => Ok(self.clear(initiator)),
                _ => Err(Refusal::Check(INVALID_FIELD_IN_CDB)),
            },
            (0..=3, _) => Err(Refusal::Conflict),
            _ => Err(Refusal::Check(INVALID_FIELD_IN_CDB)),
        }
    }

    /// With key 0, the registration ends, and with it a reservation that it alone held.
    fn register(&mut self, initiator: &str, key: u64) -> Told {
        self.generation += 1;
        if key != 0 {
            self.keys.insert(initiator.to_owned(), key);
            return Told::NOBODY;
        }
        self.keys.remove(initiator);
        let Some((holder, kind)) = self.reservation.clone() else {
            return Told::NOBODY;
        };
        let ends = if kind.is_all_registrants() {
            self.keys.is_empty()
        } else {
            holder == initiator
        };
        if !ends {
            return Told::NOBODY;
        }
        self.reservation = None;
        self.released(initiator, kind)
    }

    fn reserve(&mut self, initiator: &str, kind: Type) -> Result<Told, Refusal> {
        match &self.reservation {
            None => self.reservation = Some((initiator.to_owned(), kind)),
            Some((holder, held)) => {
                let holds = holder == initiator || held.is_all_registrants();
                if !holds || *held != kind {
                    return Err(Refusal::Conflict);
                }
            }
        }
        Ok(Told::NOBODY)
    }

    fn release(&mut self, initiator: &str, kind: Type) -> Result<Told, Refusal> {
        let Some((holder, held)) = self.reservation.clone() else {
            return Ok(Told::NOBODY);
        };
        if holder != initiator && !held.is_all_registrants() {
            return Ok(Told::NOBODY);
        }
        if held != kind {
            return Err(Refusal::Check(INVALID_RELEASE));
        }
        self.reservation = None;
        Ok(self.released(initiator, held))
    }

    fn clear(&mut self, initiator: &str) -> Told {
        self.generation += 1;
        self.reservation = None;
        let keys = std::mem::take(&mut self.keys);
        Told {
            event: RESERVATIONS_PREEMPTED,
            whom: keys
                .into_keys()
                .filter(|other| other != initiator)
                .collect(),
        }
    }

    /// The registrants hear of it who shared the reservation.
    fn released(&self, initiator: &str, kind: Type) -> Told {
        if !kind.admits_registrants() {
            return Told::NOBODY;
        }
        let others = self.keys.keys().filter(|other| *other != initiator);
        Told {
            event: RESERVATIONS_RELEASED,
            whom: others.cloned().collect(),
        }
    }
}

//! Watch: which SCSI request blocks of others are looked at, and until when.
//!
//! disk.sys serves a handle's RESERVE itself, above a lower filter, and sends it down as an SRB. With the parameter `Watch`
//! the filter reads what passes so, and changes nothing of it.
#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicBool, Ordering};

use scsi_reserve::{SrbAnswer, Watch, Watched};

use crate::reservation::Reservation;
use crate::wdf::{Asks, Below, Look, Protection, Rundown};

/// The watch over one disk.
pub struct Watching {
    level: Watch,
    /// The device has started.
    started: AtomicBool,
    /// Of the reservation: an SRB may come back when its lock is gone.
    rundown: Rundown,
    below: Below,
}

impl Watching {
    /// Of a device that has not started.
    pub fn new(level: Watch, below: Below) -> Self {
        Self {
            level,
            started: AtomicBool::new(false),
            rundown: Rundown::new(),
            below,
        }
    }

    /// What SRBs go on to.
    pub const fn below(&self) -> &Below {
        &self.below
    }

    /// The device came to full power: from now on, until it is gone, what passes is told to the reservation.
    pub fn start(&self) {
        self.started.store(true, Ordering::Release);
    }

    /// The device is being removed: tells the reservation no more, and waits for who does. `PASSIVE_LEVEL`.
    pub fn gone(&self) {
        self.rundown.wait();
    }

    /// An SRB passes.
    pub fn passes(&self, asks: Asks, reservation: &Reservation) -> Look {
        let watched = match asks {
            Asks::Command(operation, second) => Watched::of_command(operation, second),
            Asks::Function(function) => Watched::of_function(function),
            Asks::Nothing => None,
        };
        match (watched, asks) {
            (Some(watched), _) if self.is_told(reservation) => Look::Watched(watched),
            (None, Asks::Command(..)) if self.level == Watch::Answers => Look::Foreign,
            _ => Look::Away,
        }
    }

    /// The right to tell the reservation of what passes, between the device's start and its removal.
    fn there(&self) -> Option<Protection<'_>> {
        let started = self.started.load(Ordering::Acquire);
        started.then(|| self.rundown.acquire()).flatten()
    }

    /// Tells the reservation of it, if that is there.
    fn is_told(&self, reservation: &Reservation) -> bool {
        let there = self.there();
        if there.is_some() {
            reservation.other_sent();
        }
        there.is_some()
    }

    /// The answer to an SRB that is watched, or one to another that is no success.
    pub fn answered(
        &self,
        watched: Option<Watched>,
        answer: &SrbAnswer<'_>,
        reservation: &Reservation,
    ) {
        if let Some(_there) = self.there() {
            reservation.other_answered(watched, answer);
        }
    }
}

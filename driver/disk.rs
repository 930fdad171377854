//! One disk that the filter sits on: which requests are ours, and where they go. Everything else passes to the next
//! lower device as if the filter were not there.
#![forbid(unsafe_code)]

use scsi_reserve::{Control, NtStatus, SrbAnswer, Watched};

use crate::config::Parameters;
use crate::reservation::Reservation;
use crate::trace::{self, TraceEvent};
use crate::watch::Watching;
use crate::wdf::{
    Asks, Below, DeviceInit, Look, Operations, Queue, Request, Returned, Route, context,
};

/// What the filter keeps of a disk.
// In this order, counted: with `queries` at the beginning the dispatch callback takes a register more.
#[repr(C)]
pub struct Disk {
    reservation: Reservation,
    /// Parallel: a query is answered while an operation waits.
    queries: Queue,
    watching: Watching,
    /// In the order in which disks were attached to.
    number: u32,
}

context!(Disk);

impl Disk {
    /// Attaches to a disk, with the seconds that the port gives one command. `PASSIVE_LEVEL`.
    pub fn attach(
        init: DeviceInit<'_>,
        number: u32,
        parameters: &Parameters,
        timeout: u32,
    ) -> Result<(), NtStatus> {
        let device = init.create::<Self>()?;
        let watch = parameters.watch;
        let disk = Self {
            reservation: Reservation::new(&device, parameters, timeout, number)?,
            queries: device.parallel_queue()?,
            watching: Watching::new(watch, device.below()),
            number,
        };
        device.open(disk, watch)
    }
}

impl Operations for Disk {
    type Code = Control;

    fn looks_at(code: u32) -> Option<Control> {
        match Control::of(code) {
            Control::Foreign => None,
            ours => Some(ours),
        }
    }

    fn evt_device_wdm_irp_dispatch(&self, code: Control) -> Route<'_> {
        // Late in a removal queues and lock are gone before the filter is detached.
        let is_gone = self.reservation.is_gone();
        match code {
            Control::Serve(_) | Control::QueryState if is_gone => {
                Route::Complete(NtStatus::DEVICE_NOT_CONNECTED)
            }
            Control::Serve(_) => Route::Queue(self.reservation.queue()),
            Control::QueryState => Route::Queue(&self.queries),
            Control::Reset if !is_gone => Route::Watch,
            Control::Reset | Control::Foreign => Route::Pass,
        }
    }

    fn goes_by(&self, code: u32) {
        self.reservation.reset_passes(code);
    }

    fn may_change(operation: u8) -> bool {
        Watched::may_be(operation)
    }

    fn srb_passes(&self, asks: Asks) -> Look {
        self.watching.passes(asks, &self.reservation)
    }

    fn below(&self) -> &Below {
        self.watching.below()
    }

    fn srb_answered(&self, watched: Option<Watched>, answer: &SrbAnswer<'_>) {
        self.watching.answered(watched, answer, &self.reservation);
    }

    /// The one code that goes to the parallel queue is the state query.
    fn evt_io_device_control(&self, request: Request, _code: u32) {
        request.complete_with(|reply| self.reservation.tell(reply));
    }

    fn evt_io_queue_state(&self) {
        self.reservation.serve_next();
    }

    fn evt_work_item(&self) {
        self.reservation.serve_next();
    }

    fn evt_request_cancel(&self) {
        self.reservation.cancelled();
    }

    fn evt_request_completion_routine(&self, returned: Returned) {
        self.reservation.answered(returned);
    }

    fn evt_timer_func(&self) {
        self.reservation.delay_over();
    }

    fn evt_device_d0_entry(&self) {
        self.watching.start();
        self.reservation.powered_up();
    }

    fn evt_device_self_managed_io_flush(&self) {
        self.watching.gone();
        self.reservation.gone();
    }

    fn evt_cleanup_callback(&self) {
        trace::write(|| TraceEvent::DiskDetached { disk: self.number });
    }
}

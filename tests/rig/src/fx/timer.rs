//! WDFTIMER: fxtimer.cpp, facts 13.

use std::sync::{Arc, Mutex};

use super::{Body, Framework, Object, lock, of};
use crate::abi::{Code, Handle, irql};
use crate::rules;
use crate::world::{self, ThreadId, TimerId, World};

pub(super) struct Timer {
    pub callback: Code,
    pub passive: bool,
    pub world: Arc<World>,
    pub state: Mutex<TimerState>,
}

#[derive(Default)]
pub(super) struct TimerState {
    queued: Option<TimerId>,
    running: Vec<ThreadId>,
    deleted: bool,
}

// SAFETY: the callback's address is the image's, which outlives the timer.
unsafe impl Send for Timer {}
// SAFETY: as above.
unsafe impl Sync for Timer {}

impl Timer {
    fn key(&self) -> usize {
        (&raw const self.state) as usize
    }

    /// At deletion a running timer is stopped, and its callback waited for.
    pub fn dispose(&self) {
        let queued = {
            let mut state = lock(&self.state);
            state.deleted = true;
            state.queued.take()
        };
        if let Some(id) = queued {
            self.world.cancel_timer(id);
        }
        world::current().wait(self.key(), || lock(&self.state).running.is_empty());
    }
}

impl Framework {
    /// WdfTimerStart: true if it was queued already. Negative times are relative, in 100 ns.
    pub(super) fn timer_start(self: &Arc<Self>, object: &Arc<Object>, due: i64) -> bool {
        let timer = of!(object, Timer);
        let due = if due < 0 {
            self.world.now() + due.unsigned_abs()
        } else {
            due.unsigned_abs()
        };
        let mut state = lock(&timer.state);
        let was_queued = state
            .queued
            .take()
            .is_some_and(|id| self.world.cancel_timer(id));
        let (fx, fired) = (Arc::clone(self), Arc::clone(object));
        let level = if timer.passive {
            irql::PASSIVE
        } else {
            irql::DISPATCH
        };
        let name = if timer.passive {
            "timer's work item"
        } else {
            "timer's DPC"
        };
        state.queued =
            Some(
                self.world
                    .set_timer(due, name, level, Box::new(move || fx.timer_fired(&fired))),
            );
        was_queued
    }

    fn timer_fired(&self, object: &Object) {
        let timer = of!(object, Timer);
        let thread = world::current();
        thread.point();
        {
            let mut state = lock(&timer.state);
            if state.deleted {
                return;
            }
            state.queued = state.queued.filter(|&id| self.world.is_set(id));
            state.running.push(thread.id());
        }
        self.callback(timer.callback, object.handle, "EvtTimerFunc");
        lock(&timer.state).running.retain(|&id| id != thread.id());
        self.world.wake(timer.key());
    }

    /// WdfTimerStop: true if it was queued, and then its callback won't come.
    pub(super) fn timer_stop(&self, object: &Object, wait: bool) -> bool {
        let timer = of!(object, Timer);
        let thread = world::current();
        if wait
            && (thread.irql() > irql::PASSIVE || lock(&timer.state).running.contains(&thread.id()))
        {
            rules::broken(
                &rules::SYNC_CALLBACK_WAIT,
                &format!("at IRQL {}", thread.irql()),
            );
        }
        let stopped = lock(&timer.state)
            .queued
            .take()
            .is_some_and(|id| self.world.cancel_timer(id));
        if wait {
            thread.wait(timer.key(), || lock(&timer.state).running.is_empty());
        }
        stopped
    }

    pub(super) fn timer_device(&self, handle: Handle) -> Handle {
        self.object(handle, "Timer").parent.unwrap_or(0)
    }
}

//! WDFWORKITEM: fxworkitem.cpp.

use std::sync::{Arc, Mutex};

use super::{Body, Framework, Object, lock, of};
use crate::abi::{Code, Handle, irql};
use crate::rules;
use crate::world::{self, ThreadId};

pub(super) struct WorkItem {
    pub callback: Code,
    pub state: Mutex<WorkItemState>,
}

#[derive(Default)]
pub(super) struct WorkItemState {
    /// m_Enqueued: until the callback begins.
    queued: bool,
    /// m_WorkItemRunningCount: as the callback may queue it again, another thread may be in it too.
    running: Vec<ThreadId>,
    /// m_RunningDown
    deleted: bool,
}

// SAFETY: the callback's address is the image's, which outlives the work item.
unsafe impl Send for WorkItem {}
// SAFETY: as above.
unsafe impl Sync for WorkItem {}

impl WorkItem {
    fn key(&self) -> usize {
        (&raw const self.state) as usize
    }

    /// FxWorkItem::Dispose: what is queued runs before it is gone, unless the callback itself deletes it.
    pub fn dispose(&self) {
        lock(&self.state).deleted = true;
        let thread = world::current();
        thread.wait(self.key(), || {
            let state = lock(&self.state);
            state.running.contains(&thread.id()) || (!state.queued && state.running.is_empty())
        });
    }
}

impl Framework {
    /// WdfWorkItemEnqueue: nothing if it is queued already; while its callback runs it can be queued again.
    pub(super) fn work_item_enqueue(self: &Arc<Self>, object: &Arc<Object>) {
        let item = of!(object, WorkItem);
        {
            let mut state = lock(&item.state);
            if state.queued {
                return;
            }
            if state.deleted {
                drop(state);
                rules::broken(
                    &rules::CALL_AFTER_REMOVAL,
                    &format!("work item {:#x}", object.handle),
                );
            }
            state.queued = true;
        }
        let (fx, object) = (Arc::clone(self), Arc::clone(object));
        let job = Box::new(move || fx.work_item_runs(&object));
        self.world.spawn("work item", irql::PASSIVE, job);
    }

    /// FxWorkItem::WorkItemHandler.
    fn work_item_runs(&self, object: &Object) {
        let item = of!(object, WorkItem);
        let thread = world::current();
        thread.point();
        {
            let mut state = lock(&item.state);
            state.queued = false;
            state.running.push(thread.id());
        }
        self.callback(item.callback, object.handle, "EvtWorkItemFunc");
        lock(&item.state).running.retain(|&id| id != thread.id());
        self.world.wake(item.key());
    }

    pub(super) fn work_item_parent(&self, handle: Handle) -> Handle {
        self.object(handle, "WorkItem").parent.unwrap_or(0)
    }
}

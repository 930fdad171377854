//! The race that a sequential queue loses, step by step: it presents two requests at once when one comes that is cancelled
//! already (docs/kmdf-sequential-queue.md). A driver that serves one at a time whatever the queue presents ends all right.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::abi::{Status, status};
use crate::io::{Call, Pending};
use crate::node::{Node, Stack};
use crate::port::{Cancel, Shape, Timing};
use crate::world;

const RESERVE: u32 = 0x002D_4810;
const RELEASE: u32 = 0x002D_4814;
const DISPATCH: &str = "WdfDeviceWdmDispatchIrpToIoQueue";
const MARK: &str = "WdfRequestMarkCancelableEx";
const COMPLETE: &str = "WdfRequestCompleteWithInformation";
const CANCEL_SENT: &str = "WdfRequestCancelSentRequest";

/// The requests in the order in which they are sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Name {
    /// In the driver's hands first, and cancelled before that has marked it: the callback that gave it completes it.
    First,
    /// It waits behind that.
    Head,
    /// It comes cancelled when the first is complete, and that callback has not returned: the queue takes the head, and
    /// drops its lock to complete this one.
    Cancelled,
    /// It comes just then.
    Last,
}

/// How each ended.
pub type Ends = Vec<(Name, Status)>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Race {
    node: Arc<Node>,
    stack: Arc<Stack>,
    calls: Mutex<Vec<(Name, Arc<Pending>)>>,
}

impl Race {
    fn send(&self, name: Name) -> Arc<Pending> {
        let cancelled = name == Name::Cancelled;
        let code = match name {
            Name::First | Name::Cancelled => RELEASE,
            Name::Head | Name::Last => RESERVE,
        };
        let note = |pending: &Arc<Pending>| {
            if cancelled {
                pending.cancel();
            }
            lock(&self.calls).push((name, Arc::clone(pending)));
        };
        self.node
            .start_noting(&self.stack, &Call::ioctl(code), note)
    }
}

/// Plays it on one disk; with `late_cancel` the last request is cancelled when its command is all but answered. A request
/// that is never completed breaks a rule, which ends the process, and so does one that is told of another's success.
///
/// # Panics
/// If the driver does not pass the places where the requests are to come.
pub fn play(node: &Arc<Node>, stack: &Arc<Stack>, late_cancel: bool) -> Ends {
    stack.port.behave(Shape::Success, Timing::Never);
    stack.port.on_cancel(Cancel::Ignored);
    let race = Arc::new(Race {
        node: Arc::clone(node),
        stack: Arc::clone(stack),
        calls: Mutex::default(),
    });
    let thread = world::current();
    let [head, cancelled, last] = [(); 3].map(|()| Arc::clone(&race));
    let last = move || {
        let request = last.send(Name::Last);
        if late_cancel {
            let port = Arc::clone(&last.stack.port);
            let answers = Box::new(move || port.finish_all());
            let world = &world::current().world;
            world.place_in(CANCEL_SENT, 0, "port", answers);
            request.cancel();
        }
    };
    let cancelled = move || {
        let world = &world::current().world;
        world.place_in(DISPATCH, 1, "last", Box::new(last));
        cancelled.send(Name::Cancelled);
    };
    let head = move || {
        let first = lock(&head.calls).first().cloned();
        if let Some((_, first)) = first {
            first.cancel();
        }
        head.send(Name::Head);
    };
    thread.world.place_in(MARK, 0, "head", Box::new(head));
    thread
        .world
        .place_in(COMPLETE, 1, "cancelled", Box::new(cancelled));
    race.send(Name::First);
    thread.settle();
    // Where the last one waits behind the head, a cancel finds it there.
    let left = thread.world.take_back_all();
    assert!(
        left <= usize::from(late_cancel),
        "{left} places are not passed"
    );
    stack.port.behave(Shape::Success, Timing::Later);
    stack.port.finish_all();
    let calls = lock(&race.calls).clone();
    let ends = calls
        .into_iter()
        .map(|(name, call)| (name, call.wait().status));
    let ends = ends.collect();
    thread.settle();
    ends
}

/// What a driver makes of it that serves one at a time.
pub fn is_right(&(name, end): &(Name, Status)) -> bool {
    match name {
        Name::First | Name::Cancelled => end == status::CANCELLED,
        Name::Head => end == status::SUCCESS,
        Name::Last => [status::SUCCESS, status::CANCELLED].contains(&end),
    }
}

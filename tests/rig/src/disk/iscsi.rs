//! A [`Disk`] behind a real iSCSI target, through libiscsi.
//!
//! Each nexus is one iSCSI session with a libiscsi context of its own. The login stops at the
//! login: libiscsi's `iscsi_full_connect` would go on with TEST UNIT READY until all unit attentions
//! are eaten, which here belong to the caller. Nothing reconnects. libiscsi reports CONDITION MET as
//! GOOD; every other status and all sense data come as the target sent them.

use std::{
    cell::{Cell, RefCell},
    ffi::{CStr, CString, c_int, c_void},
    net::{Shutdown, TcpStream},
    os::fd::{BorrowedFd, OwnedFd},
    ptr::{self, NonNull},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::{CHECK_CONDITION, Data, Disk, DiskError, Outcome, TaskManagement};

#[expect(
    dead_code,
    non_camel_case_types,
    unreachable_pub,
    reason = "written by bindgen"
)]
mod sys {
    include!(concat!(env!("OUT_DIR"), "/libiscsi.rs"));
}

/// For login, logout and task management.
const SESSION_TIMEOUT: Duration = Duration::from_secs(10);

/// An I_T nexus to a logical unit of an iSCSI target. It can be used from any thread; commands take
/// turns.
pub struct IscsiDisk {
    /// `None` once the nexus has ended.
    session: Mutex<Option<Session>>,
    /// The session's connection, to break it while a command waits for its answer.
    socket: TcpStream,
    lun: c_int,
}

impl IscsiDisk {
    /// Logs in to `target` at `portal` (`address:port`) under the name `initiator`.
    ///
    /// # Errors
    /// [`DiskError::Failed`] with libiscsi's reason: nobody listens, no such target, not allowed.
    pub fn connect(
        portal: &str,
        target: &str,
        lun: u8,
        initiator: &str,
    ) -> Result<Self, DiskError> {
        let session = Session::login(portal, target, initiator)?;
        let socket = session.duplicate_socket()?;
        Ok(Self {
            session: Mutex::new(Some(session)),
            socket,
            lun: lun.into(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Option<Session>> {
        // A panic elsewhere leaves a session that still knows its own state.
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `operation` on the session, and ends it if the connection proves lost or an answer is
    /// still to come that nobody will take.
    fn with<T>(
        &self,
        operation: impl FnOnce(&Session) -> Result<T, DiskError>,
    ) -> Result<T, DiskError> {
        let mut session = self.lock();
        let result = operation(session.as_ref().ok_or(DiskError::Gone)?);
        if session.as_ref().is_some_and(|session| session.broken.get()) {
            *session = None;
        }
        result
    }
}

impl Disk for IscsiDisk {
    fn transfer(&self, cdb: &[u8], data: Data<'_>, timeout: Duration) -> Outcome {
        match self.with(|session| session.command(self.lun, cdb, data, timeout)) {
            Ok(outcome) => outcome,
            Err(DiskError::TimedOut) => Outcome::TimedOut,
            Err(_) => Outcome::Gone,
        }
    }

    fn manage(&self, function: TaskManagement) -> Result<(), DiskError> {
        self.with(|session| session.manage(self.lun, function))
    }

    fn lose(&self) {
        // Fails where the target was first to close; the connection is gone either way.
        let _ = self.socket.shutdown(Shutdown::Both);
        *self.lock() = None;
    }
}

impl Drop for IscsiDisk {
    fn drop(&mut self) {
        if let Some(session) = self.lock().take() {
            // A target that does not answer the logout loses the nexus with the connection.
            let _ = session.logout();
        }
    }
}

/// A libiscsi context.
struct Session {
    context: NonNull<sys::iscsi_context>,
    completion: Box<Completion>,
    /// No further command may be sent.
    broken: Cell<bool>,
}

// SAFETY: a libiscsi context has no ties to the thread that made it, and the session, which owns
// context and completion, is used by one thread at a time (it is not Sync).
unsafe impl Send for Session {}

/// Where libiscsi's callbacks leave what they are told; at most one call is under way.
#[derive(Default)]
struct Completion {
    status: Cell<Option<c_int>>,
    /// libiscsi's reason for a status that is not GOOD; later calls put others in its place.
    error: RefCell<String>,
    /// Of a task management function: `iscsi_task_mgmt_response`.
    response: Cell<u32>,
}

impl Session {
    fn login(portal: &str, target: &str, initiator: &str) -> Result<Self, DiskError> {
        let [portal, target, initiator] =
            [c_string(portal)?, c_string(target)?, c_string(initiator)?];
        // SAFETY: the name is a C string; libiscsi copies it.
        let context = unsafe { sys::iscsi_create_context(initiator.as_ptr()) };
        let context =
            NonNull::new(context).ok_or_else(|| DiskError::Failed("libiscsi: no memory".into()))?;
        let session = Self {
            context,
            completion: Box::default(),
            broken: Cell::new(false),
        };
        let context = context.as_ptr();

        // SAFETY: the context is live; libiscsi copies the name.
        session.check(unsafe { sys::iscsi_set_targetname(context, target.as_ptr()) })?;
        let normal = sys::iscsi_session_type::ISCSI_SESSION_NORMAL;
        // SAFETY: the context is live.
        session.check(unsafe { sys::iscsi_set_session_type(context, normal) })?;
        // SAFETY: the context is live.
        unsafe { sys::iscsi_set_noautoreconnect(context, 1) };

        let deadline = Instant::now() + SESSION_TIMEOUT;
        session.call(deadline, |private| {
            // SAFETY: the context and what `private` points to live as long as the session.
            unsafe { sys::iscsi_connect_async(context, portal.as_ptr(), Some(done), private) }
        })?;
        session.call(deadline, |private| {
            // SAFETY: as above.
            unsafe { sys::iscsi_login_async(context, Some(done), private) }
        })?;
        Ok(session)
    }

    fn logout(&self) -> Result<(), DiskError> {
        self.call(Instant::now() + SESSION_TIMEOUT, |private| {
            // SAFETY: the context and what `private` points to live as long as the session.
            unsafe { sys::iscsi_logout_async(self.context.as_ptr(), Some(done), private) }
        })
    }

    fn manage(&self, lun: c_int, function: TaskManagement) -> Result<(), DiskError> {
        use sys::{iscsi_task_mgmt_funcs as functions, iscsi_task_mgmt_response as responses};
        const NO_TASK: u32 = 0xFFFF_FFFF;

        let (lun, function) = match function {
            TaskManagement::LogicalUnitReset => (lun, functions::ISCSI_TM_LUN_RESET),
            TaskManagement::TargetWarmReset => (0, functions::ISCSI_TM_TARGET_WARM_RESET),
            TaskManagement::TargetColdReset => (0, functions::ISCSI_TM_TARGET_COLD_RESET),
        };
        let context = self.context.as_ptr();
        self.call(Instant::now() + SESSION_TIMEOUT, |private| {
            let callback: sys::iscsi_command_cb = Some(managed);
            // SAFETY: the context and what `private` points to live as long as the session.
            unsafe {
                sys::iscsi_task_mgmt_async(context, lun, function, NO_TASK, 0, callback, private)
            }
        })?;
        match self.completion.response.get() {
            responses::ISCSI_TMR_FUNC_COMPLETE => Ok(()),
            responses::ISCSI_TMR_TMF_NOT_SUPPORTED => Err(DiskError::NotSupported),
            other => Err(DiskError::Failed(format!(
                "the target answered {other:#04x} (RFC 7143 11.6.1)"
            ))),
        }
    }

    fn command(
        &self,
        lun: c_int,
        cdb: &[u8],
        data: Data<'_>,
        timeout: Duration,
    ) -> Result<Outcome, DiskError> {
        let task = Task::new(cdb, data)?;
        // libiscsi only reads what it sends.
        let mut out = match data {
            Data::Out(bytes) => sys::iscsi_data {
                size: bytes.len(),
                data: bytes.as_ptr().cast_mut(),
            },
            Data::None | Data::In(_) => sys::iscsi_data {
                size: 0,
                data: ptr::null_mut(),
            },
        };
        self.completion.status.set(None);
        // SAFETY: context, task, `out` and completion outlive the command: every way out of this
        // function comes after its callback, or after the context is destroyed.
        let sent = unsafe {
            sys::iscsi_scsi_command_async(
                self.context.as_ptr(),
                lun,
                task.0.as_ptr(),
                Some(done),
                &raw mut out,
                self.private(),
            )
        };
        if sent != 0 {
            self.broken.set(true);
            return Err(DiskError::Gone);
        }
        match self.wait(Instant::now() + timeout) {
            Ok(status) => self.outcome(status, &task),
            Err(stopped) => {
                self.cancel(task);
                Err(stopped)
            }
        }
    }

    /// What a completed command came to. libiscsi's own codes, for commands that never got an
    /// answer, lie above the status byte.
    fn outcome(&self, status: c_int, task: &Task) -> Result<Outcome, DiskError> {
        let Ok(status) = u8::try_from(status) else {
            self.broken.set(true);
            return Err(DiskError::Gone);
        };
        let bytes = task.data_in();
        let (sense, data) = match status {
            CHECK_CONDITION => (sense_data(bytes).to_vec(), Vec::new()),
            _ => (Vec::new(), bytes.to_vec()),
        };
        Ok(Outcome::Status {
            status,
            sense,
            data,
        })
    }

    /// Takes back a command that has no answer yet; a late one finds nobody.
    fn cancel(&self, task: Task) {
        // SAFETY: the context is live, and so is the task.
        let cancelled =
            unsafe { sys::iscsi_scsi_cancel_task(self.context.as_ptr(), task.0.as_ptr()) };
        if cancelled != 0 && self.completion.status.get().is_none() {
            // Half sent: libiscsi still refers to the task, and will when the context is destroyed.
            self.broken.set(true);
            std::mem::forget(task);
        }
    }

    /// Starts something by `start`, with the `private` pointer for its callback, and waits for GOOD.
    fn call(
        &self,
        deadline: Instant,
        start: impl FnOnce(*mut c_void) -> c_int,
    ) -> Result<(), DiskError> {
        self.completion.status.set(None);
        let result = self
            .check(start(self.private()))
            .and_then(|()| self.wait(deadline));
        let result = match result {
            Ok(0) => return Ok(()),
            Ok(_) => Err(DiskError::Failed(self.completion.error.take())),
            Err(error) => Err(error),
        };
        self.broken.set(true);
        result
    }

    /// Serves the connection until the callback has come.
    fn wait(&self, deadline: Instant) -> Result<c_int, DiskError> {
        let context = self.context.as_ptr();
        loop {
            if let Some(status) = self.completion.status.get() {
                return Ok(status);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(DiskError::TimedOut);
            }
            // SAFETY: the context is live.
            let fd = unsafe { sys::iscsi_get_fd(context) };
            // SAFETY: the context is live.
            let events = unsafe { sys::iscsi_which_events(context) };
            let revents = poll(fd, events, left);
            // SAFETY: the context is live, and its callbacks' pointer with it.
            let served = unsafe { sys::iscsi_service(context, revents) };
            if served < 0 && self.completion.status.get().is_none() {
                self.broken.set(true);
                return Err(self.error());
            }
        }
    }

    fn check(&self, result: c_int) -> Result<(), DiskError> {
        if result == 0 {
            Ok(())
        } else {
            Err(self.error())
        }
    }

    fn error(&self) -> DiskError {
        DiskError::Failed(last_error(self.context.as_ptr()))
    }

    fn private(&self) -> *mut c_void {
        ptr::from_ref::<Completion>(&self.completion)
            .cast_mut()
            .cast()
    }

    fn duplicate_socket(&self) -> Result<TcpStream, DiskError> {
        // SAFETY: the context is live.
        let fd = unsafe { sys::iscsi_get_fd(self.context.as_ptr()) };
        // SAFETY: the connection of a context that is logged in is open.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        let own: Result<OwnedFd, _> = fd.try_clone_to_owned();
        own.map(TcpStream::from)
            .map_err(|error| DiskError::Failed(error.to_string()))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // SAFETY: the context is live and nobody else's. Callbacks that this runs find the
        // completion, which is dropped after it.
        unsafe { sys::iscsi_destroy_context(self.context.as_ptr()) };
    }
}

/// A SCSI command of libiscsi's.
struct Task(NonNull<sys::scsi_task>);

impl Task {
    fn new(cdb: &[u8], data: Data<'_>) -> Result<Self, DiskError> {
        use sys::scsi_xfer_dir::{SCSI_XFER_NONE, SCSI_XFER_READ, SCSI_XFER_WRITE};
        let too_long =
            |_| DiskError::Failed("a CDB or its data is longer than libiscsi takes".into());

        let (direction, length) = match data {
            Data::None => (SCSI_XFER_NONE, 0),
            Data::In(room) => (SCSI_XFER_READ, room),
            Data::Out(bytes) => (SCSI_XFER_WRITE, bytes.len()),
        };
        let length = c_int::try_from(length).map_err(too_long)?;
        let size = u8::try_from(cdb.len()).map_err(too_long)?;
        // SAFETY: libiscsi copies `size` bytes of the CDB and does not write to it.
        let task = unsafe {
            sys::scsi_create_task(
                size.into(),
                cdb.as_ptr().cast_mut(),
                direction.cast_signed(),
                length,
            )
        };
        NonNull::new(task)
            .map(Self)
            .ok_or_else(|| DiskError::Failed("libiscsi: no memory".into()))
    }

    fn data_in(&self) -> &[u8] {
        // SAFETY: the task is live, and its command has completed.
        let datain = unsafe { &raw const (*self.0.as_ptr()).datain };
        // SAFETY: as above.
        let sys::scsi_data { size, data } = unsafe { ptr::read(datain) };
        match usize::try_from(size) {
            // SAFETY: libiscsi has put `size` bytes there, which stay as long as the task.
            Ok(size) if !data.is_null() => unsafe { std::slice::from_raw_parts(data, size) },
            _ => &[],
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        // SAFETY: the command has completed or was cancelled; libiscsi refers to the task no more.
        unsafe { sys::scsi_free_scsi_task(self.0.as_ptr()) };
    }
}

extern "C" fn done(
    context: *mut sys::iscsi_context,
    status: c_int,
    _: *mut c_void,
    private: *mut c_void,
) {
    // SAFETY: every call that names this callback passes its session's completion.
    let completion = unsafe { &*private.cast::<Completion>() };
    if status != 0 {
        completion.error.replace(last_error(context));
    }
    completion.status.set(Some(status));
}

extern "C" fn managed(
    context: *mut sys::iscsi_context,
    status: c_int,
    response: *mut c_void,
    private: *mut c_void,
) {
    // SAFETY: every call that names this callback passes its session's completion.
    let completion = unsafe { &*private.cast::<Completion>() };
    if !response.is_null() {
        // SAFETY: of a task management function libiscsi passes the response as an uint32_t.
        completion.response.set(unsafe { *response.cast::<u32>() });
    }
    done(context, status, response, private);
}

/// What libiscsi says of a live context's last failure.
fn last_error(context: *mut sys::iscsi_context) -> String {
    // SAFETY: the context is live; the text stays until its next call.
    let text = unsafe { sys::iscsi_get_error(context) };
    // SAFETY: libiscsi gives a C string, never null.
    let text = unsafe { CStr::from_ptr(text) };
    format!("libiscsi: {}", text.to_string_lossy().trim_end())
}

/// Waits for events on a socket and gives those that came; none after `left`, or on a signal.
fn poll(fd: c_int, events: c_int, left: Duration) -> c_int {
    // Poll's events are a short; libiscsi hands them out as int.
    let events = i16::try_from(events).unwrap_or_default();
    let mut pollfd = libc::pollfd {
        fd,
        events,
        revents: 0,
    };
    let milliseconds = c_int::try_from(left.as_millis() + 1).unwrap_or(c_int::MAX);
    // SAFETY: one pollfd, which lives over the call.
    let ready = unsafe { libc::poll(&raw mut pollfd, 1, milliseconds) };
    if ready > 0 { pollfd.revents.into() } else { 0 }
}

/// Sense data from a response's data segment: a length of two bytes, the data, padding
/// (RFC 7143 11.4.7).
fn sense_data(segment: &[u8]) -> &[u8] {
    match segment {
        [high, low, sense @ ..] => {
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            &sense[..length.min(sense.len())]
        }
        _ => &[],
    }
}

fn c_string(text: &str) -> Result<CString, DiskError> {
    CString::new(text).map_err(|_| DiskError::Failed(format!("{text:?} contains a NUL")))
}

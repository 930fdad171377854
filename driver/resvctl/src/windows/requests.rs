//! Requests that are out while the program goes on, and another process that has some out.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::windows::io::{AsRawHandle as _, FromRawHandle as _, OwnedHandle};
use std::process::{Child, Command, Stdio};
use std::ptr::{null, null_mut};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use windows_sys::Wdk::System::IO::NtDeviceIoControlFile;
use windows_sys::Win32::Foundation::{
    ERROR_INVALID_PARAMETER, ERROR_NOT_FOUND, HANDLE, STATUS_PENDING, WAIT_OBJECT_0, WAIT_TIMEOUT,
};
use windows_sys::Win32::Storage::FileSystem::FILE_FLAG_OVERLAPPED;
use windows_sys::Win32::System::IO::{CancelIoEx, OVERLAPPED};
use windows_sys::Win32::System::Threading::{CreateEventW, INFINITE, WaitForSingleObject};

use super::{last_error, ok, open_device};
use crate::machine::{Access, Answer, Completed, Process, Requests, Win32};

/// True if it is signalled before so many milliseconds have passed.
fn wait(handle: HANDLE, milliseconds: u32) -> Answer<bool> {
    // SAFETY: a live handle.
    match unsafe { WaitForSingleObject(handle, milliseconds) } {
        WAIT_OBJECT_0 => Ok(true),
        WAIT_TIMEOUT => Ok(false),
        _ => Err(last_error()),
    }
}

/// One request. Windows writes to the structure until it sets the event.
struct Request {
    overlapped: *mut OVERLAPPED,
    event: OwnedHandle,
    ended: Option<Completed>,
}

impl Request {
    /// Its answer once the event is set.
    fn look(&self) -> Completed {
        // SAFETY: the structure lives as long as the request, and Windows is done with it.
        let overlapped = unsafe { self.overlapped.read_volatile() };
        #[allow(
            clippy::cast_possible_truncation,
            reason = "the NTSTATUS is its lower half"
        )]
        Completed {
            status: (overlapped.Internal as u32).cast_signed(),
            information: overlapped.InternalHigh as u64,
        }
    }

    fn end(&mut self, milliseconds: u32) -> Answer<Option<Completed>> {
        if self.ended.is_none() && wait(self.event.as_raw_handle(), milliseconds)? {
            self.ended = Some(self.look());
        }
        Ok(self.ended)
    }
}

/// A device and the requests that were sent to it.
pub(super) struct Queue {
    device: File,
    requests: Vec<Request>,
}

impl Queue {
    pub(super) fn open(path: &str, access: Access) -> Answer<Self> {
        Ok(Self {
            device: open_device(path, access, FILE_FLAG_OVERLAPPED)?,
            requests: Vec::new(),
        })
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: a live handle; null is all of its requests.
        unsafe { CancelIoEx(self.device.as_raw_handle(), null()) };
        for request in &mut self.requests {
            // What can't be waited for may still be written to, and stays.
            if matches!(request.end(INFINITE), Ok(Some(_))) {
                // SAFETY: it came from a box, and Windows is done with it.
                drop(unsafe { Box::from_raw(request.overlapped) });
            }
        }
    }
}

impl Requests for Queue {
    fn begin(&mut self, code: u32) -> Answer<usize> {
        // SAFETY: no security and no name; a manual event that is not set.
        let event = unsafe { CreateEventW(null(), 1, 0, null()) };
        if event.is_null() {
            return Err(last_error());
        }
        // SAFETY: the event was just made, and is this function's.
        let event = unsafe { OwnedHandle::from_raw_handle(event) };
        let overlapped = Box::into_raw(Box::new(OVERLAPPED {
            Internal: STATUS_PENDING.cast_unsigned() as usize,
            hEvent: event.as_raw_handle(),
            ..Default::default()
        }));
        self.requests.push(Request {
            overlapped,
            event,
            ended: None,
        });
        let number = self.requests.len() - 1;
        let request = &mut self.requests[number];
        let (device, event) = (self.device.as_raw_handle(), request.event.as_raw_handle());
        // What DeviceIoControl calls; that would make of a status that comes at once its Win32 error.
        // SAFETY: live handles, no routine and no buffers. OVERLAPPED begins with an IO_STATUS_BLOCK, and lives until
        // the event is set.
        let status = unsafe {
            NtDeviceIoControlFile(
                device,
                event,
                None,
                null(),
                overlapped.cast(),
                code,
                null(),
                0,
                null_mut(),
                0,
            )
        };
        // An error that comes at once comes nowhere else. All other statuses come by the structure and the event.
        if status.cast_unsigned() >> 30 == 3 {
            request.ended = Some(Completed {
                status,
                information: 0,
            });
        }
        Ok(number)
    }

    fn cancel(&mut self, request: usize) -> Answer<bool> {
        let request = self.requests.get(request);
        let request = request.ok_or(Win32(ERROR_INVALID_PARAMETER))?;
        if request.ended.is_some() {
            return Ok(false);
        }
        // SAFETY: a live handle, and a structure that lives as long as its request.
        match ok(unsafe { CancelIoEx(self.device.as_raw_handle(), request.overlapped) }) {
            Err(Win32(ERROR_NOT_FOUND)) => Ok(false),
            result => result.map(|()| true),
        }
    }

    fn end(&mut self, request: usize, milliseconds: u32) -> Answer<Option<Completed>> {
        let request = self.requests.get_mut(request);
        request
            .ok_or(Win32(ERROR_INVALID_PARAMETER))?
            .end(milliseconds)
    }
}

/// The first argument of the process that only has requests out. It is nobody's to type.
const HOLD: &str = "--hold-requests";

/// What it prints when they are out.
const OUT: &str = "out";

/// Carries out what [`Holder::start`] asks of another process of this program: its exit code. None if the arguments
/// are a person's.
#[must_use]
pub fn child(arguments: &[OsString]) -> Option<u8> {
    let [_, hold, path, code, requests] = arguments else {
        return None;
    };
    if hold != HOLD {
        return None;
    }
    let number = |argument: &OsString| argument.to_str().and_then(|text| text.parse().ok());
    let (Some(path), Some(code), Some(requests)) = (path.to_str(), number(code), number(requests))
    else {
        return Some(2);
    };
    match hold_requests(path, code, requests) {
        Ok(()) => Some(0),
        Err(error) => {
            println!("{}", error.0);
            Some(1)
        }
    }
}

fn hold_requests(path: &str, code: u32, requests: u32) -> Answer<()> {
    let mut queue = Queue::open(path, Access::Read)?;
    for _ in 0..requests {
        queue.begin(code)?;
    }
    let mut out = io::stdout();
    writeln!(out, "{OUT}")?;
    out.flush()?;
    // Until it is killed, or nobody is left who could.
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// A process of this program that has requests out.
pub(super) struct Holder(Child);

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
    }
}

impl Holder {
    pub(super) fn start(path: &str, code: u32, requests: u32) -> Answer<Self> {
        let child = Command::new(std::env::current_exe()?)
            .args([HOLD, path, &code.to_string(), &requests.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut holder = Self(child);
        let out = holder.0.stdout.take().ok_or(Win32::INVALID_DATA)?;
        let (sender, line) = mpsc::channel();
        thread::spawn(move || {
            let mut line = String::new();
            let read = BufReader::new(out).read_line(&mut line);
            // Who no longer listens has given it up.
            let _ = sender.send(read.map(|_| line));
        });
        // A device's driver that does not let go of whoever sends a request is waited for so long.
        let line = line.recv_timeout(Duration::from_secs(30));
        let line = line.map_err(|_| Win32::SEM_TIMEOUT)??;
        match line.trim() {
            OUT => Ok(holder),
            error => Err(error.parse().map_or(Win32::INVALID_DATA, Win32)),
        }
    }
}

impl Process for Holder {
    fn kill(&mut self) -> Answer<()> {
        Ok(self.0.kill()?)
    }

    fn has_ended(&mut self, milliseconds: u32) -> Answer<bool> {
        wait(self.0.as_raw_handle(), milliseconds)
    }
}

//! What resvctl asks of the machine that it runs on. Windows answers for real ([`crate::windows`]); tests answer from
//! memory, and from the rig's nodes with the built driver.

use std::fmt;

/// A Win32 error code (winerror.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Win32(pub u32);

macro_rules! errors {
    ($($name:ident $value:literal $words:literal)*) => {
        #[allow(missing_docs, reason = "the words are beside the number")]
        impl Win32 {
            $(pub const $name: Self = Self($value);)*

            const fn words(self) -> &'static str {
                match self {
                    $(Self::$name => $words,)*
                    _ => "Windows said no",
                }
            }
        }
    };
}

// The second half are those that the driver's statuses become by RtlNtStatusToDosError ([MS-ERREF] 2.3.1 has the
// statuses); tests/wine.rs compares them with an implementation of it.
errors! {
    FILE_NOT_FOUND               2 "there is no such thing"
    PATH_NOT_FOUND               3 "there is no such thing"
    INVALID_DATA                13 "the data is invalid"
    NOT_SUPPORTED               50 "the request is not supported"
    MORE_DATA                  234 "there is more data"
    SERVICE_DOES_NOT_EXIST    1060 "there is no such service"
    SERVICE_MARKED_FOR_DELETE 1072 "the service goes when Windows starts the next time"
    FILE_IN_USE                 32 "the file is in use"
    PROC_NOT_FOUND             127 "the image wants what this Windows does not have"
    BAD_EXE_FORMAT             193 "the file is no image for this processor"
    INVALID_IMAGE_HASH         577 "the image is not signed as this Windows wants it"
    DRIVER_BLOCKED            1275 "Windows keeps this driver from being loaded"
    NO_SUCH_DEVINST    0xE000_020B "the device is known no more"
    NOT_VIRTUAL_DISK   0xC03A_0015 "the disk is no file"

    INVALID_FUNCTION             1 "the disk or its port driver does not know the request"
    ACCESS_DENIED                5 "access is denied"
    NOT_READY                   21 "the disk is busy or not ready"
    CRC                         23 "the disk reports a medium error"
    SEM_TIMEOUT                121 "no answer came in time, and whether the disk is reserved is unknown"
    INSUFFICIENT_BUFFER        122 "the buffer is too small"
    BUSY                       170 "another initiator holds the disk"
    DEVICE_HARDWARE_ERROR      483 "the disk reports a hardware error"
    OPERATION_ABORTED          995 "the request was cancelled"
    IO_DEVICE                 1117 "the disk's answer was an error"
    DEVICE_NOT_CONNECTED      1167 "the disk is gone, or the path to it"
    NO_SYSTEM_RESOURCES       1450 "the system is short of memory"
}

impl fmt::Display for Win32 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (words, Self(code)) = (self.words(), self);
        if *code < 0x1_0000 {
            write!(f, "{words} (error {code})")
        } else {
            write!(f, "{words} (error {code:#010x})")
        }
    }
}

/// A result whose error is Windows'.
pub type Answer<T> = Result<T, Win32>;

/// A key of the registry, or what is like one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    /// Below `HKEY_LOCAL_MACHINE`.
    Machine(String),
    /// The properties of the device with this instance ID: `LowerFilters`, `UpperFilters`, `FriendlyName`.
    Device(String),
    /// The hardware key of the device with this instance ID.
    Hardware(String),
}

/// The types of a registry value that are met here (winnt.h).
pub mod kind {
    /// `REG_SZ`
    pub const SZ: u32 = 1;
    /// `REG_DWORD`
    pub const DWORD: u32 = 4;
    /// `REG_MULTI_SZ`
    pub const MULTI_SZ: u32 = 7;
}

/// A value of the registry, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// Its type, see [`kind`].
    pub kind: u32,
    /// Its bytes.
    pub data: Vec<u8>,
}

impl Value {
    /// A `REG_SZ`.
    #[must_use]
    pub fn sz(text: &str) -> Self {
        let units = text.encode_utf16().chain([0]);
        Self {
            kind: kind::SZ,
            data: units.flat_map(u16::to_le_bytes).collect(),
        }
    }

    /// A `REG_DWORD`.
    #[must_use]
    pub fn dword(number: u32) -> Self {
        Self {
            kind: kind::DWORD,
            data: number.to_le_bytes().into(),
        }
    }

    /// The text of a string, up to its terminator.
    #[must_use]
    pub fn text(&self) -> String {
        let units = self.data.chunks_exact(2);
        let units = units.map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
        let units: Vec<u16> = units.take_while(|unit| *unit != 0).collect();
        String::from_utf16_lossy(&units)
    }
}

/// A device of the class of disks, plugged in or only remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its device instance ID.
    pub instance: String,
    /// What opens it; none for a device that is not there now.
    pub path: Option<String>,
}

/// What a device is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Questions that need no rights.
    Ask,
    /// `GENERIC_READ`: what the reservation's control codes want.
    Read,
    /// `GENERIC_READ` and `GENERIC_WRITE`: what a pass-through wants.
    ReadWrite,
}

/// An open device.
pub trait Device {
    /// `DeviceIoControl`: how many bytes of `output` were written.
    ///
    /// # Errors
    /// What the device's stack made of it.
    fn control(&self, code: u32, input: &[u8], output: &mut [u8]) -> Answer<usize>;

    /// The volumes that have the files of which this disk is made (a VHD, its parents): `GetStorageDependencyInformation`.
    ///
    /// # Errors
    /// That function's: the disk is no file's, or it is not told.
    fn host_volumes(&self) -> Answer<Vec<String>>;
}

/// A file of the registry: what is flushed together, and lost together when the power goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hive {
    /// `HKLM\SYSTEM`: services, classes, devices.
    System,
    /// `HKLM\SOFTWARE`: resvctl's own record.
    Software,
}

/// How a program ended that was run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// Its exit code.
    pub code: u32,
    /// What it printed.
    pub output: String,
}

/// A driver's image as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// Its file as the kernel names it: `\SystemRoot\System32\drivers\resvflt.sys`.
    pub path: String,
    /// How many bytes it has in memory: `SizeOfImage`.
    pub size: u32,
    /// `CheckSum` of its headers.
    pub checksum: u32,
    /// `TimeDateStamp` of its headers.
    pub timestamp: u32,
}

/// A service's configuration and state: QUERY_SERVICE_CONFIGW, SERVICE_STATUS (winsvc.h).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// When it starts: 0 at boot.
    pub start: u32,
    /// What a start that fails does to the system's.
    pub error_control: u32,
    /// Its load order group.
    pub group: String,
    /// Its file.
    pub image: String,
    /// SERVICE_RUNNING is 4.
    pub state: u32,
}

/// What Windows makes of a signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// What `WinVerifyTrust` returned: 0 if the signature is good and its signer trusted.
    pub result: u32,
    /// The signer's name, if one was found.
    pub signer: Option<String>,
}

/// What Driver Verifier has counted of one driver (SYSTEM_VERIFIER_INFORMATION).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Its settings: the bits of `verifier /flags`.
    pub flags: u32,
    /// Whether WDF verification is among its rule classes; none of a Windows that does not tell them.
    pub wdf: Option<bool>,
    /// How often it was loaded since Windows started.
    pub loads: u32,
    /// How often it was unloaded.
    pub unloads: u32,
    /// Pool allocations that it asked for.
    pub allocations: u32,
    /// Of them those that were failed on purpose.
    pub failed_on_purpose: u32,
    /// What it has allocated now.
    pub outstanding: u32,
}

/// One decoded ETW event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traced {
    /// Its name.
    pub name: String,
    /// Its level: 3 warning, 4 information, 5 verbose.
    pub level: u8,
    /// Its keyword bits.
    pub keyword: u64,
    /// Each field's name and its value as text: numbers in decimal, hexadecimal ones with 0x.
    pub fields: Vec<(String, String)>,
}

/// An ETW session that records one provider. Dropped, it is stopped and what it recorded is gone.
pub trait Session {
    /// Stops it: its events, in their order.
    ///
    /// # Errors
    /// Those of `ControlTrace`, `OpenTrace`, `ProcessTrace` and `TdhGetEventInformation`.
    fn stop(self: Box<Self>) -> Answer<Vec<Traced>>;
}

/// How a request ended, as `OVERLAPPED` tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completed {
    /// The NTSTATUS: `Internal`.
    pub status: i32,
    /// `InternalHigh`.
    pub information: u64,
}

/// A device opened so that requests don't wait (`FILE_FLAG_OVERLAPPED`). Dropped, it cancels what is out and waits for it.
pub trait Requests {
    /// Sends a device control without buffers: its number among those of this handle.
    ///
    /// # Errors
    /// Never the device's: those come by [`end`](Self::end), also where `DeviceIoControl` had them at once.
    fn begin(&mut self, code: u32) -> Answer<usize>;

    /// `CancelIoEx` of one of them: true if it was still out.
    ///
    /// # Errors
    /// That function's, other than that the request was not found.
    fn cancel(&mut self, request: usize) -> Answer<bool>;

    /// Waits for one of them; none if it is still out after so many milliseconds.
    ///
    /// # Errors
    /// Those of waiting.
    fn end(&mut self, request: usize, milliseconds: u32) -> Answer<Option<Completed>>;
}

/// Another process. Dropped, it is killed.
pub trait Process {
    /// Ends it from outside (`TerminateProcess`).
    ///
    /// # Errors
    /// That function's.
    fn kill(&mut self) -> Answer<()>;

    /// True if it has ended, with all its requests, before so many milliseconds have passed.
    ///
    /// # Errors
    /// Those of waiting.
    fn has_ended(&mut self, milliseconds: u32) -> Answer<bool>;
}

/// When a file is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removed {
    /// Now.
    Now,
    /// When Windows starts the next time: it is in use.
    AtRestart,
}

/// The machine. Files are named by full Windows paths; the service is always `resvflt`.
#[allow(
    clippy::missing_errors_doc,
    reason = "each gives the error of the Win32 function that does it"
)]
pub trait Machine {
    /// True with an administrator's full token.
    fn is_elevated(&self) -> bool;
    /// Windows' build number, whatever the manifest says: `RtlGetVersion`.
    fn build(&self) -> u32;
    /// `QueryInterruptTimePrecise`: the clock of the driver's KeQueryInterruptTimePrecise.
    fn interrupt_time(&self) -> u64;
    /// The folder that resvctl.exe lies in.
    fn package(&self) -> String;
    /// `C:\Windows\System32`, where it is.
    fn system(&self) -> String;

    /// Opens a device.
    fn open(&self, path: &str, access: Access) -> Answer<Box<dyn Device + '_>>;
    /// The devices of the class of disks.
    fn nodes(&self) -> Answer<Vec<Node>>;
    /// The drivers of a started device, from the top down (`\Driver\disk`); none where Windows doesn't say.
    fn stack(&self, instance: &str) -> Answer<Vec<String>>;

    /// A value of the registry; none where it or its key is not there.
    fn value(&self, key: &Key, name: &str) -> Answer<Option<Value>>;
    /// Sets a value and makes its key, or with none deletes the value if it is there.
    fn set_value(&self, key: &Key, name: &str, value: Option<&Value>) -> Answer<()>;
    /// Deletes a key that has no keys below it, with its values.
    fn delete_key(&self, key: &Key) -> Answer<()>;
    /// The values of a key below `HKEY_LOCAL_MACHINE`; none if it is not there.
    fn values(&self, path: &str) -> Answer<Vec<(String, Value)>>;
    /// The names of the keys below a key of `HKEY_LOCAL_MACHINE`; none if it is not there.
    fn subkeys(&self, path: &str) -> Answer<Vec<String>>;
    /// `RegFlushKey`: what was written to this hive is on the disk when it returns.
    fn flush(&self, hive: Hive) -> Answer<()>;

    /// True if the driver is loaded.
    fn is_loaded(&self) -> Answer<bool>;
    /// True if the service is there, an error if it is marked for deletion.
    fn has_service(&self) -> Answer<bool>;
    /// Makes the service, started at boot.
    fn create_service(&self, image: &str) -> Answer<()>;
    /// Has Windows load the driver now, or finds it loaded: no error means that its image loads and that it is signed.
    fn start_service(&self) -> Answer<()>;
    /// Deletes the service if it is there.
    fn delete_service(&self) -> Answer<()>;

    /// A file's bytes, if it is there.
    fn read_file(&self, path: &str) -> Answer<Option<Vec<u8>>>;
    /// Copies a file over another; its bytes are on the disk when it returns.
    fn copy_file(&self, from: &str, to: &str) -> Answer<()>;
    /// Puts a file into another's place, in one step that is on the disk when it returns.
    fn move_file(&self, from: &str, to: &str) -> Answer<()>;
    /// Deletes a file if it is there; its name is free, and on the disk so, when it returns.
    fn remove_file(&self, path: &str) -> Answer<Removed>;
    /// Runs a program and waits for it.
    fn run(&self, program: &str, arguments: &[&str]) -> Answer<Ended>;

    // What only `selftest` asks. A machine that can't tell says NOT_SUPPORTED.

    /// A driver's image as the kernel has it, by its file's name (`resvflt.sys`); none if it is not loaded.
    fn loaded(&self, _file: &str) -> Answer<Option<Loaded>> {
        Err(Win32::NOT_SUPPORTED)
    }
    /// A service, if it is there.
    fn service(&self, _name: &str) -> Answer<Option<Service>> {
        Err(Win32::NOT_SUPPORTED)
    }
    /// `WinVerifyTrust` of a file by the signature in it.
    fn signature(&self, _path: &str) -> Answer<Signature> {
        Err(Win32::NOT_SUPPORTED)
    }
    /// `WinVerifyTrust` of a file by a catalog.
    fn signature_in(&self, _catalog: &str, _member: &str) -> Answer<Signature> {
        Err(Win32::NOT_SUPPORTED)
    }
    /// The version in a file's version resource (`10.0.20348.1`); none if the file or the resource is not there.
    fn file_version(&self, _path: &str) -> Answer<Option<String>> {
        Err(Win32::NOT_SUPPORTED)
    }
    /// What a status is in Win32: `RtlNtStatusToDosError`.
    fn win32_of(&self, _status: i32) -> Answer<Win32> {
        Err(Win32::NOT_SUPPORTED)
    }
    /// What Driver Verifier counts of a driver since Windows started; none if it does not watch it.
    fn verified(&self, _file: &str) -> Answer<Option<Verified>> {
        Err(Win32::NOT_SUPPORTED)
    }
    /// Starts a session of its own that records all events of the provider with this GUID.
    fn trace(&self, _provider: u128) -> Answer<Box<dyn Session + '_>> {
        Err(Win32::NOT_SUPPORTED)
    }
    /// Opens a device so that requests don't wait.
    fn requests(&self, _path: &str, _access: Access) -> Answer<Box<dyn Requests + '_>> {
        Err(Win32::NOT_SUPPORTED)
    }
    /// Starts another process that sends a device so many device controls without buffers at once, and then waits.
    fn process(&self, _path: &str, _code: u32, _requests: u32) -> Answer<Box<dyn Process + '_>> {
        Err(Win32::NOT_SUPPORTED)
    }
    /// Has the machine sleep (S3, or what stands for it) and wake after so many seconds; returns when it is awake again.
    fn sleep(&self, _seconds: u32) -> Answer<()> {
        Err(Win32::NOT_SUPPORTED)
    }
    /// Lets so many milliseconds pass.
    fn wait(&self, _milliseconds: u32) -> Answer<()> {
        Err(Win32::NOT_SUPPORTED)
    }
    /// Waits until the operator presses Enter; false if there is nobody who could.
    fn enter(&self) -> Answer<bool> {
        Err(Win32::NOT_SUPPORTED)
    }
    /// Writes a file, over another if there is one, in one step for whoever reads it.
    fn write_file(&self, _path: &str, _bytes: &[u8]) -> Answer<()> {
        Err(Win32::NOT_SUPPORTED)
    }
}

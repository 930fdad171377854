//! Windows itself, as a [`Machine`]: the only unsafe code of the program.

mod devices;
mod kernel;
mod registry;
mod requests;
mod services;
mod sleep;
mod trace;
mod trust;

use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal as _, Write as _};
use std::iter::once;
use std::os::windows::fs::OpenOptionsExt as _;
use std::os::windows::io::{AsRawHandle as _, FromRawHandle as _, OwnedHandle};
use std::path::Path;
use std::process::{self, Command};
use std::ptr::{null, null_mut};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use windows_sys::Wdk::System::SystemServices::RtlGetVersion;
use windows_sys::Win32::Devices::DeviceAndDriverInstallation::SetupDiGetDevicePropertyW;
use windows_sys::Win32::Devices::Properties::DEVPKEY_Device_Stack;
use windows_sys::Win32::Foundation::{
    ERROR_FILE_NOT_FOUND, ERROR_INVALID_DATA, ERROR_KEY_DOES_NOT_EXIST, ERROR_NOT_FOUND,
    ERROR_PATH_NOT_FOUND, ERROR_SERVICE_ALREADY_RUNNING, GENERIC_READ, GENERIC_WRITE, GetLastError,
};
use windows_sys::Win32::Security::{
    GetTokenInformation, TOKEN_ELEVATION, TOKEN_QUERY, TokenElevation,
};
use windows_sys::Win32::Storage::FileSystem::{
    FILE_SHARE_DELETE, FILE_SHARE_READ, FILE_SHARE_WRITE, MOVE_FILE_FLAGS,
    MOVEFILE_DELAY_UNTIL_REBOOT, MOVEFILE_REPLACE_EXISTING, MOVEFILE_WRITE_THROUGH, MoveFileExW,
};
use windows_sys::Win32::Storage::Vhd::{
    GET_STORAGE_DEPENDENCY_FLAG_DISK_HANDLE, GET_STORAGE_DEPENDENCY_FLAG_HOST_VOLUMES,
    GetStorageDependencyInformation, STORAGE_DEPENDENCY_INFO, STORAGE_DEPENDENCY_INFO_TYPE_2,
    STORAGE_DEPENDENCY_INFO_VERSION_2,
};
use windows_sys::Win32::System::IO::DeviceIoControl;
use windows_sys::Win32::System::Registry::{HKEY_LOCAL_MACHINE, RegDeleteKeyW, RegFlushKey};
use windows_sys::Win32::System::Services::{
    ChangeServiceConfigW, CreateServiceW, DeleteService, SC_MANAGER_CREATE_SERVICE,
    SERVICE_BOOT_START, SERVICE_CHANGE_CONFIG, SERVICE_ERROR_NORMAL, SERVICE_KERNEL_DRIVER,
    SERVICE_NO_CHANGE, SERVICE_QUERY_STATUS, SERVICE_RUNNING, SERVICE_START, StartServiceW,
};
use windows_sys::Win32::System::SystemInformation::{GetSystemDirectoryW, OSVERSIONINFOW};
use windows_sys::Win32::System::Threading::{GetCurrentProcess, OpenProcessToken};
use windows_sys::Win32::System::WindowsProgramming::QueryInterruptTimePrecise;

use crate::machine::{
    self, Access, Answer, Device, Ended, Hive, Key, Loaded, Machine, Node, Process, Removed,
    Requests, Session, Signature, Value, Verified, Win32,
};
use crate::{FILTER, multi_string};
pub use requests::child;

use devices::{Devices, device_value, hardware_key, set_device_value};
use registry::Open;
use requests::{Holder, Queue};
use services::Service;
use trace::Recording;

/// DELETE (winnt.h).
const DELETE: u32 = 0x0001_0000;

/// The machine that the program runs on.
pub struct Windows;

fn wide(text: &str) -> Vec<u16> {
    text.encode_utf16().chain(once(0)).collect()
}

fn narrow(units: &[u16]) -> String {
    let end = units.iter().position(|unit| *unit == 0);
    String::from_utf16_lossy(&units[..end.unwrap_or(units.len())])
}

/// A structure's size, as Win32 wants to be told it.
fn size<T>() -> u32 {
    u32::try_from(size_of::<T>()).unwrap_or(u32::MAX)
}

fn length<T>(buffer: &[T]) -> u32 {
    u32::try_from(size_of_val(buffer)).unwrap_or(u32::MAX)
}

fn last_error() -> Win32 {
    // SAFETY: no preconditions.
    Win32(unsafe { GetLastError() })
}

/// A BOOL's meaning.
fn ok(result: i32) -> Answer<()> {
    if result == 0 {
        Err(last_error())
    } else {
        Ok(())
    }
}

/// An LSTATUS's meaning.
fn status(result: u32) -> Answer<()> {
    if result == 0 {
        Ok(())
    } else {
        Err(Win32(result))
    }
}

/// None for what is not there. The last of them is SetupAPI's word for it.
fn if_there<T>(result: Answer<T>) -> Answer<Option<T>> {
    match result {
        Err(Win32(ERROR_FILE_NOT_FOUND | ERROR_PATH_NOT_FOUND | ERROR_KEY_DOES_NOT_EXIST)) => {
            Ok(None)
        }
        Err(error) => Err(error),
        Ok(there) => Ok(Some(there)),
    }
}

impl From<io::Error> for Win32 {
    fn from(error: io::Error) -> Self {
        Self(
            error
                .raw_os_error()
                .map_or(ERROR_INVALID_DATA, i32::cast_unsigned),
        )
    }
}

struct Handle(File);

impl Device for Handle {
    fn control(&self, code: u32, input: &[u8], output: &mut [u8]) -> Answer<usize> {
        let mut written = 0;
        let (handle, sent, room) = (self.0.as_raw_handle(), length(input), length(output));
        let (input, output) = (input.as_ptr().cast(), output.as_mut_ptr().cast());
        // SAFETY: a live handle, two buffers of these lengths, and no overlapped call.
        ok(unsafe {
            DeviceIoControl(
                handle,
                code,
                input,
                sent,
                output,
                room,
                &raw mut written,
                null_mut(),
            )
        })?;
        Ok(written as usize)
    }

    fn host_volumes(&self) -> Answer<Vec<String>> {
        const FLAGS: i32 =
            GET_STORAGE_DEPENDENCY_FLAG_HOST_VOLUMES | GET_STORAGE_DEPENDENCY_FLAG_DISK_HANDLE;
        // u64s for the structure's alignment. The strings lie behind the entries.
        let mut buffer = vec![0_u64; 8192];
        let info: *mut STORAGE_DEPENDENCY_INFO = buffer.as_mut_ptr().cast();
        // SAFETY: the buffer is larger than the structure.
        unsafe { (*info).Version = STORAGE_DEPENDENCY_INFO_VERSION_2 };
        let (handle, room, mut used) = (self.0.as_raw_handle(), length(&buffer), 0);
        // SAFETY: a live handle, and a buffer of that size whose version is set.
        status(unsafe {
            GetStorageDependencyInformation(handle, FLAGS, room, info, &raw mut used)
        })?;
        // SAFETY: as above.
        let count = unsafe { (*info).NumberEntries } as usize;
        // SAFETY: the function wrote entries of this version, which its success says fit the buffer.
        let entries: *const STORAGE_DEPENDENCY_INFO_TYPE_2 =
            unsafe { (&raw const (*info).Anonymous).cast() };
        let first =
            size_of::<STORAGE_DEPENDENCY_INFO>() - size_of::<STORAGE_DEPENDENCY_INFO_TYPE_2>();
        let fit = (size_of_val(&*buffer) - first) / size_of::<STORAGE_DEPENDENCY_INFO_TYPE_2>();
        // SAFETY: that many entries lie in the buffer, which lives.
        let entries = unsafe { std::slice::from_raw_parts(entries, count.min(fit)) };
        let names = entries.iter().map(|entry| entry.HostVolumeName);
        // SAFETY: a name is a string with its NUL in the buffer, or null.
        Ok(names.filter_map(|name| unsafe { pointed(name) }).collect())
    }
}

/// A string that a function of Windows' points to; none at null.
///
/// # Safety
/// `text` is null, or points to units that end with a NUL.
unsafe fn pointed(text: *const u16) -> Option<String> {
    let mut units = Vec::new();
    let mut at = text;
    if text.is_null() {
        return None;
    }
    loop {
        // SAFETY: the caller's promise; no NUL came yet.
        let unit = unsafe { at.read() };
        if unit == 0 {
            return Some(String::from_utf16_lossy(&units));
        }
        units.push(unit);
        // SAFETY: as above: the NUL is not behind yet.
        at = unsafe { at.add(1) };
    }
}

fn open_device(path: &str, access: Access, flags: u32) -> Answer<File> {
    let access = match access {
        Access::Ask => 0,
        Access::Read => GENERIC_READ,
        Access::ReadWrite => GENERIC_READ | GENERIC_WRITE,
    };
    let share = FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE;
    let mut options = OpenOptions::new();
    options.access_mode(access).share_mode(share);
    Ok(options.custom_flags(flags).open(path)?)
}

/// This process's token.
fn own_token(access: u32) -> Answer<OwnedHandle> {
    let mut token = null_mut();
    // SAFETY: no preconditions; a pseudo handle, which is not closed.
    let process = unsafe { GetCurrentProcess() };
    // SAFETY: a live handle; the token is written to a live place.
    ok(unsafe { OpenProcessToken(process, access, &raw mut token) })?;
    // SAFETY: the token was just opened, and is this function's.
    Ok(unsafe { OwnedHandle::from_raw_handle(token) })
}

/// A file's path for functions that otherwise take no more than MAX_PATH units: in the form that says how long it may be
/// (Microsoft's page "Maximum Path Length Limitation"), which std makes of its own.
fn long(path: &str) -> Vec<u16> {
    let full = std::path::absolute(path).ok();
    let path = full.as_deref().and_then(Path::to_str).unwrap_or(path);
    let is_short = path.encode_utf16().count() < 248;
    if is_short || path.starts_with(r"\\?\") || path.starts_with(r"\\.\") {
        return wide(path);
    }
    wide(&path.strip_prefix(r"\\").map_or_else(
        || format!(r"\\?\{path}"),
        |share| format!(r"\\?\UNC\{share}"),
    ))
}

/// Moves a file; to nowhere is its deletion.
fn move_file(from: &str, to: Option<&str>, flags: MOVE_FILE_FLAGS) -> Answer<()> {
    let (from, to) = (wide(from), to.map(wide));
    let to = to.as_ref().map_or(null(), Vec::as_ptr);
    // SAFETY: strings with their NULs, or null.
    ok(unsafe { MoveFileExW(from.as_ptr(), to, flags) })
}

impl Machine for Windows {
    fn is_elevated(&self) -> bool {
        let Ok(token) = own_token(TOKEN_QUERY) else {
            return false;
        };
        let (mut elevation, mut length) = (TOKEN_ELEVATION::default(), 0);
        let (buffer, size) = ((&raw mut elevation).cast(), size::<TOKEN_ELEVATION>());
        // SAFETY: a live token and a buffer of that size.
        let told = unsafe {
            GetTokenInformation(
                token.as_raw_handle(),
                TokenElevation,
                buffer,
                size,
                &raw mut length,
            )
        };
        told != 0 && elevation.TokenIsElevated != 0
    }

    fn build(&self) -> u32 {
        let mut version = OSVERSIONINFOW {
            dwOSVersionInfoSize: size::<OSVERSIONINFOW>(),
            ..Default::default()
        };
        // SAFETY: a live structure that says its size.
        unsafe { RtlGetVersion(&raw mut version) };
        version.dwBuildNumber
    }

    fn interrupt_time(&self) -> u64 {
        let mut time = 0;
        // SAFETY: a live place.
        unsafe { QueryInterruptTimePrecise(&raw mut time) };
        time
    }

    fn package(&self) -> String {
        let program = std::env::current_exe().ok();
        let folder = program.as_deref().and_then(Path::parent);
        folder.unwrap_or(Path::new(".")).display().to_string()
    }

    fn system(&self) -> String {
        let mut path = [0; 512];
        // SAFETY: a buffer of 512 units.
        unsafe { GetSystemDirectoryW(path.as_mut_ptr(), 512) };
        narrow(&path)
    }

    fn open(&self, path: &str, access: Access) -> Answer<Box<dyn Device + '_>> {
        Ok(Box::new(Handle(open_device(path, access, 0)?)))
    }

    fn nodes(&self) -> Answer<Vec<Node>> {
        let interfaces = Devices::interfaces()?;
        let path = |instance: &str| {
            let of = interfaces
                .iter()
                .find(|(id, _)| id.eq_ignore_ascii_case(instance));
            of.map(|(_, path)| path.clone())
        };
        let nodes = Devices::disks()?.into_iter();
        Ok(nodes
            .map(|instance| Node {
                path: path(&instance),
                instance,
            })
            .collect())
    }

    fn stack(&self, instance: &str) -> Answer<Vec<String>> {
        let (devices, device) = Devices::one(instance)?;
        let (mut kind, mut list) = (0, vec![0_u8; 8192]);
        let (room, buffer) = (length(&list), list.as_mut_ptr());
        let mut needed = 0;
        // SAFETY: a live set, one of its devices, a live key, and a buffer of `room` bytes.
        match ok(unsafe {
            SetupDiGetDevicePropertyW(
                devices.0,
                &raw const device,
                &DEVPKEY_Device_Stack,
                &raw mut kind,
                buffer,
                room,
                &raw mut needed,
                0,
            )
        }) {
            Err(Win32(ERROR_NOT_FOUND)) => Ok(Vec::new()),
            result => {
                result?;
                list.truncate(needed as usize);
                Ok(multi_string::strings(&list))
            }
        }
    }

    fn value(&self, key: &Key, name: &str) -> Answer<Option<Value>> {
        let key = match key {
            Key::Device(instance) => return device_value(instance, name),
            Key::Machine(path) => Open::machine(path, false),
            Key::Hardware(instance) => hardware_key(instance, false),
        };
        if_there(key.and_then(|key| key.query(name)))
    }

    fn set_value(&self, key: &Key, name: &str, value: Option<&Value>) -> Answer<()> {
        match key {
            Key::Device(instance) => set_device_value(instance, name, value),
            Key::Machine(path) => Open::machine(path, true)?.set(name, value),
            Key::Hardware(instance) => hardware_key(instance, true)?.set(name, value),
        }
    }

    fn delete_key(&self, key: &Key) -> Answer<()> {
        let Key::Machine(path) = key else {
            return Err(Win32::NOT_SUPPORTED);
        };
        let path = wide(path);
        // SAFETY: a live string with its NUL.
        let result = unsafe { RegDeleteKeyW(HKEY_LOCAL_MACHINE, path.as_ptr()) };
        if_there(status(result)).map(drop)
    }

    fn values(&self, path: &str) -> Answer<Vec<(String, Value)>> {
        let Some(key) = if_there(Open::machine(path, false))? else {
            return Ok(Vec::new());
        };
        let names = key.value_names()?.into_iter();
        // One that is gone since is none.
        let values = names.map(|name| Ok(if_there(key.query(&name))?.map(|value| (name, value))));
        values.filter_map(Result::transpose).collect()
    }

    fn subkeys(&self, path: &str) -> Answer<Vec<String>> {
        let key = if_there(Open::machine(path, false))?;
        key.map_or(Ok(Vec::new()), |key| key.key_names())
    }

    fn flush(&self, hive: Hive) -> Answer<()> {
        // A key's flush is its hive's.
        let key = Open::machine(
            match hive {
                Hive::System => "SYSTEM",
                Hive::Software => "SOFTWARE",
            },
            false,
        )?;
        // SAFETY: an open key.
        status(unsafe { RegFlushKey(key.0) })
    }

    fn is_loaded(&self) -> Answer<bool> {
        let Some(service) = Service::open(SERVICE_QUERY_STATUS)? else {
            return Ok(false);
        };
        Ok(service.state()? == SERVICE_RUNNING)
    }

    fn has_service(&self) -> Answer<bool> {
        let Some(service) = Service::open(SERVICE_CHANGE_CONFIG)? else {
            return Ok(false);
        };
        let keep = SERVICE_NO_CHANGE;
        // It can be opened while it waits for its deletion; a change, even of nothing, says so.
        // SAFETY: a live handle; null keeps what is there.
        ok(unsafe {
            ChangeServiceConfigW(
                service.0,
                keep,
                keep,
                keep,
                null(),
                null(),
                null_mut(),
                null(),
                null(),
                null(),
                null(),
            )
        })?;
        Ok(true)
    }

    fn create_service(&self, image: &str) -> Answer<()> {
        // As inf/resvflt.inx has it, which says why.
        let manager = Service::manager(SC_MANAGER_CREATE_SERVICE)?;
        let (name, image, group) = (wide(FILTER), wide(image), wide("PnP Filter"));
        // SAFETY: a live handle and strings with their NULs; null is no tag, dependency or account.
        let service = unsafe {
            CreateServiceW(
                manager.0,
                name.as_ptr(),
                name.as_ptr(),
                SERVICE_QUERY_STATUS,
                SERVICE_KERNEL_DRIVER,
                SERVICE_BOOT_START,
                SERVICE_ERROR_NORMAL,
                image.as_ptr(),
                group.as_ptr(),
                null_mut(),
                null(),
                null(),
                null(),
            )
        };
        Service::new(service).map(drop)
    }

    fn start_service(&self) -> Answer<()> {
        let Some(service) = Service::open(SERVICE_START)? else {
            return Err(Win32::SERVICE_DOES_NOT_EXIST);
        };
        // SAFETY: a live handle; no arguments.
        match ok(unsafe { StartServiceW(service.0, 0, null()) }) {
            Err(Win32(ERROR_SERVICE_ALREADY_RUNNING)) => Ok(()),
            result => result,
        }
    }

    fn delete_service(&self) -> Answer<()> {
        let Some(service) = Service::open(DELETE)? else {
            return Ok(());
        };
        // SAFETY: a live handle.
        match ok(unsafe { DeleteService(service.0) }) {
            Err(Win32::SERVICE_MARKED_FOR_DELETE) => Ok(()),
            result => result,
        }
    }

    fn read_file(&self, path: &str) -> Answer<Option<Vec<u8>>> {
        if_there(fs::read(path).map_err(Win32::from))
    }

    fn copy_file(&self, from: &str, to: &str) -> Answer<()> {
        let bytes = fs::read(from)?;
        let mut file = File::create(to)?;
        file.write_all(&bytes)?;
        // FlushFileBuffers.
        file.sync_all()?;
        Ok(())
    }

    fn move_file(&self, from: &str, to: &str) -> Answer<()> {
        move_file(
            from,
            Some(to),
            MOVEFILE_REPLACE_EXISTING | MOVEFILE_WRITE_THROUGH,
        )
    }

    fn remove_file(&self, path: &str) -> Answer<Removed> {
        // A loaded driver's file can be renamed, not deleted. Under its own name a later install's would go instead.
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let old = format!("{path}.{}.old", since.unwrap_or_default().as_nanos());
        if if_there(move_file(path, Some(&old), MOVEFILE_WRITE_THROUGH))?.is_none() {
            return Ok(Removed::Now);
        }
        if fs::remove_file(&old).is_ok() {
            return Ok(Removed::Now);
        }
        move_file(&old, None, MOVEFILE_DELAY_UNTIL_REBOOT)?;
        Ok(Removed::AtRestart)
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Answer<Ended> {
        let ended = Command::new(program).args(arguments).output()?;
        Ok(Ended {
            code: ended.status.code().map_or(u32::MAX, i32::cast_unsigned),
            output: String::from_utf8_lossy(&[ended.stdout, ended.stderr].concat()).into_owned(),
        })
    }

    fn loaded(&self, file: &str) -> Answer<Option<Loaded>> {
        kernel::loaded(file)
    }

    fn service(&self, name: &str) -> Answer<Option<machine::Service>> {
        services::service(name)
    }

    fn signature(&self, path: &str) -> Answer<Signature> {
        trust::embedded(path)
    }

    fn signature_in(&self, catalog: &str, member: &str) -> Answer<Signature> {
        trust::in_catalog(catalog, member)
    }

    fn file_version(&self, path: &str) -> Answer<Option<String>> {
        trust::file_version(path)
    }

    fn win32_of(&self, status: i32) -> Answer<Win32> {
        Ok(kernel::win32_of(status))
    }

    fn verified(&self, file: &str) -> Answer<Option<Verified>> {
        kernel::verified(file)
    }

    fn trace(&self, provider: u128) -> Answer<Box<dyn Session + '_>> {
        Ok(Box::new(Recording::start(provider)?))
    }

    fn requests(&self, path: &str, access: Access) -> Answer<Box<dyn Requests + '_>> {
        Ok(Box::new(Queue::open(path, access)?))
    }

    fn process(&self, path: &str, code: u32, requests: u32) -> Answer<Box<dyn Process + '_>> {
        Ok(Box::new(Holder::start(path, code, requests)?))
    }

    fn sleep(&self, seconds: u32) -> Answer<()> {
        sleep::sleep(seconds)
    }

    fn wait(&self, milliseconds: u32) -> Answer<()> {
        thread::sleep(Duration::from_millis(milliseconds.into()));
        Ok(())
    }

    fn enter(&self) -> Answer<bool> {
        let input = io::stdin();
        // What is piped in came before the question.
        Ok(input.is_terminal() && input.read_line(&mut String::new())? != 0)
    }

    fn write_file(&self, path: &str, bytes: &[u8]) -> Answer<()> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let (process, time) = (process::id(), since.unwrap_or_default().as_nanos());
        let temporary = format!("{path}.{process}.{time}.tmp");
        let written = File::create_new(&temporary).and_then(|mut file| {
            file.write_all(bytes)?;
            // FlushFileBuffers.
            file.sync_all()
        });
        let put = written.map_err(Win32::from);
        let put = put.and_then(|()| put_in_place(&temporary, path));
        if put.is_err() {
            // What failed is told; this is only tidy.
            let _ = fs::remove_file(&temporary);
        }
        put
    }
}

/// Renames a file over another, which somebody may be reading: on a share that is waited for.
fn put_in_place(from: &str, to: &str) -> Answer<()> {
    let mut tries = 0;
    loop {
        match fs::rename(from, to).map_err(Win32::from) {
            Err(Win32::ACCESS_DENIED | Win32::FILE_IN_USE) if tries < 20 => tries += 1,
            result => return result,
        }
        thread::sleep(Duration::from_millis(100));
    }
}

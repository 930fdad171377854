//! Windows itself, as a [`Machine`]: the only unsafe code of the program.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::iter::once;
use std::os::windows::fs::OpenOptionsExt as _;
use std::os::windows::io::{AsRawHandle as _, FromRawHandle as _, OwnedHandle};
use std::path::Path;
use std::process::Command;
use std::ptr::{null, null_mut};
use std::time::{SystemTime, UNIX_EPOCH};

use windows_sys::Wdk::System::SystemServices::RtlGetVersion;
use windows_sys::Win32::Devices::DeviceAndDriverInstallation::{
    DICS_FLAG_GLOBAL, DIGCF_DEVICEINTERFACE, DIGCF_PRESENT, DIREG_DEV, GUID_DEVCLASS_DISKDRIVE,
    HDEVINFO, SP_DEVICE_INTERFACE_DATA, SP_DEVICE_INTERFACE_DETAIL_DATA_W, SP_DEVINFO_DATA,
    SPDRP_FRIENDLYNAME, SPDRP_LOWERFILTERS, SPDRP_UPPERFILTERS, SetupDiCreateDevRegKeyW,
    SetupDiCreateDeviceInfoList, SetupDiDestroyDeviceInfoList, SetupDiEnumDeviceInfo,
    SetupDiEnumDeviceInterfaces, SetupDiGetClassDevsW, SetupDiGetDeviceInstanceIdW,
    SetupDiGetDeviceInterfaceDetailW, SetupDiGetDevicePropertyW, SetupDiGetDeviceRegistryPropertyW,
    SetupDiOpenDevRegKey, SetupDiOpenDeviceInfoW, SetupDiSetDeviceRegistryPropertyW,
};
use windows_sys::Win32::Devices::Properties::DEVPKEY_Device_Stack;
use windows_sys::Win32::Foundation::{
    ERROR_FILE_NOT_FOUND, ERROR_INSUFFICIENT_BUFFER, ERROR_INVALID_DATA, ERROR_KEY_DOES_NOT_EXIST,
    ERROR_MORE_DATA, ERROR_NO_MORE_ITEMS, ERROR_NOT_FOUND, ERROR_PATH_NOT_FOUND,
    ERROR_SERVICE_ALREADY_RUNNING, GENERIC_READ, GENERIC_WRITE, GetLastError,
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
use windows_sys::Win32::System::Ioctl::GUID_DEVINTERFACE_DISK;
use windows_sys::Win32::System::Registry::{
    HKEY, HKEY_LOCAL_MACHINE, KEY_ENUMERATE_SUB_KEYS, KEY_QUERY_VALUE, KEY_SET_VALUE,
    REG_OPTION_NON_VOLATILE, RegCloseKey, RegCreateKeyExW, RegDeleteKeyW, RegDeleteValueW,
    RegEnumKeyExW, RegEnumValueW, RegFlushKey, RegOpenKeyExW, RegQueryValueExW, RegSetValueExW,
};
use windows_sys::Win32::System::Services::{
    ChangeServiceConfigW, CloseServiceHandle, CreateServiceW, DeleteService, OpenSCManagerW,
    OpenServiceW, QueryServiceStatus, SC_HANDLE, SC_MANAGER_CONNECT, SC_MANAGER_CREATE_SERVICE,
    SERVICE_BOOT_START, SERVICE_CHANGE_CONFIG, SERVICE_ERROR_NORMAL, SERVICE_KERNEL_DRIVER,
    SERVICE_NO_CHANGE, SERVICE_QUERY_STATUS, SERVICE_RUNNING, SERVICE_START, SERVICE_STATUS,
    StartServiceW,
};
use windows_sys::Win32::System::SystemInformation::{GetSystemDirectoryW, OSVERSIONINFOW};
use windows_sys::Win32::System::Threading::{GetCurrentProcess, OpenProcessToken};
use windows_sys::Win32::System::WindowsProgramming::QueryInterruptTimePrecise;

use crate::machine::{
    Access, Answer, Device, Ended, Hive, Key, Machine, Node, Removed, Value, Win32,
};
use crate::{FILTER, multi_string};

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

/// An open registry key.
struct Open(HKEY);

impl Drop for Open {
    fn drop(&mut self) {
        // SAFETY: the key is open, and nobody else closes it.
        unsafe { RegCloseKey(self.0) };
    }
}

impl Open {
    fn machine(path: &str, write: bool) -> Answer<Self> {
        let (path, mut key) = (wide(path), null_mut());
        status(if write {
            // SAFETY: a live string with its NUL; the key is written to a live place.
            unsafe {
                RegCreateKeyExW(
                    HKEY_LOCAL_MACHINE,
                    path.as_ptr(),
                    0,
                    null(),
                    REG_OPTION_NON_VOLATILE,
                    KEY_SET_VALUE,
                    null(),
                    &raw mut key,
                    null_mut(),
                )
            }
        } else {
            // SAFETY: as above.
            unsafe {
                RegOpenKeyExW(
                    HKEY_LOCAL_MACHINE,
                    path.as_ptr(),
                    0,
                    KEY_QUERY_VALUE | KEY_ENUMERATE_SUB_KEYS,
                    &raw mut key,
                )
            }
        })?;
        Ok(Self(key))
    }

    fn query(&self, name: &str) -> Answer<Value> {
        let name = wide(name);
        let mut value = Value {
            kind: 0,
            data: vec![0; 1024],
        };
        loop {
            let mut size = length(&value.data);
            let (kind, data) = (&raw mut value.kind, value.data.as_mut_ptr());
            // SAFETY: an open key, a live string with its NUL, and a buffer of `size` bytes.
            let result = unsafe {
                RegQueryValueExW(self.0, name.as_ptr(), null(), kind, data, &raw mut size)
            };
            value.data.resize(size as usize, 0);
            if result != ERROR_MORE_DATA {
                return status(result).map(|()| value);
            }
        }
    }

    /// The names of its values.
    fn value_names(&self) -> Answer<Vec<String>> {
        // The longest name that a value may have, and its NUL (Microsoft's page "Registry Element Size Limits").
        let mut name = vec![0; 16_384];
        let mut names = Vec::new();
        for index in 0.. {
            let mut length = length(&name) / 2;
            // SAFETY: an open key and a buffer of that many units; null: nothing else is wanted.
            match status(unsafe {
                RegEnumValueW(
                    self.0,
                    index,
                    name.as_mut_ptr(),
                    &raw mut length,
                    null(),
                    null_mut(),
                    null_mut(),
                    null_mut(),
                )
            }) {
                Err(Win32(ERROR_NO_MORE_ITEMS)) => break,
                result => result?,
            }
            names.push(narrow(&name[..length as usize]));
        }
        Ok(names)
    }

    /// The names of the keys below it.
    fn key_names(&self) -> Answer<Vec<String>> {
        // The same page: 255 units.
        let mut name = [0; 256];
        let mut names = Vec::new();
        for index in 0.. {
            let mut length = length(&name) / 2;
            // SAFETY: an open key and a buffer of that many units; null: nothing else is wanted.
            match status(unsafe {
                RegEnumKeyExW(
                    self.0,
                    index,
                    name.as_mut_ptr(),
                    &raw mut length,
                    null(),
                    null_mut(),
                    null_mut(),
                    null_mut(),
                )
            }) {
                Err(Win32(ERROR_NO_MORE_ITEMS)) => break,
                result => result?,
            }
            names.push(narrow(&name[..length as usize]));
        }
        Ok(names)
    }

    fn set(&self, name: &str, value: Option<&Value>) -> Answer<()> {
        let name = wide(name);
        let Some(Value { kind, data }) = value else {
            // SAFETY: an open key and a live string with its NUL.
            let result = unsafe { RegDeleteValueW(self.0, name.as_ptr()) };
            return if_there(status(result)).map(drop);
        };
        // SAFETY: as above, and the data has that length.
        status(unsafe {
            RegSetValueExW(self.0, name.as_ptr(), 0, *kind, data.as_ptr(), length(data))
        })
    }
}

/// A set of devices, of SetupAPI.
struct Devices(HDEVINFO);

impl Drop for Devices {
    fn drop(&mut self) {
        // SAFETY: the set is open, and nobody else closes it.
        unsafe { SetupDiDestroyDeviceInfoList(self.0) };
    }
}

#[allow(clippy::cast_possible_truncation, reason = "32 bytes")]
const NO_DEVICE: SP_DEVINFO_DATA = SP_DEVINFO_DATA {
    cbSize: size_of::<SP_DEVINFO_DATA>() as u32,
    ClassGuid: windows_sys::core::GUID::from_u128(0),
    DevInst: 0,
    Reserved: 0,
};

impl Devices {
    fn new(set: HDEVINFO) -> Answer<Self> {
        // INVALID_HANDLE_VALUE
        if set == -1 {
            Err(last_error())
        } else {
            Ok(Self(set))
        }
    }

    /// One device by its instance ID, plugged in or not.
    fn one(instance: &str) -> Answer<(Self, SP_DEVINFO_DATA)> {
        // SAFETY: null means any class and no window.
        let devices = Self::new(unsafe { SetupDiCreateDeviceInfoList(null(), null_mut()) })?;
        let (instance, mut device) = (wide(instance), NO_DEVICE);
        // SAFETY: a live set, a string with its NUL, and a live structure that says its size.
        ok(unsafe {
            SetupDiOpenDeviceInfoW(devices.0, instance.as_ptr(), null_mut(), 0, &raw mut device)
        })?;
        Ok((devices, device))
    }

    fn instance(&self, device: &SP_DEVINFO_DATA) -> Answer<String> {
        let mut id = [0; 512];
        // SAFETY: a live set, one of its devices, and a buffer of 512 units.
        ok(unsafe {
            SetupDiGetDeviceInstanceIdW(self.0, device, id.as_mut_ptr(), 512, null_mut())
        })?;
        Ok(narrow(&id))
    }

    /// The disks' interfaces: instance ID and what opens it.
    fn interfaces() -> Answer<Vec<(String, String)>> {
        let flags = DIGCF_DEVICEINTERFACE | DIGCF_PRESENT;
        // SAFETY: a live GUID; null means any enumerator and no window.
        let set =
            unsafe { SetupDiGetClassDevsW(&GUID_DEVINTERFACE_DISK, null(), null_mut(), flags) };
        let devices = Self::new(set)?;
        let mut found = Vec::new();
        for index in 0.. {
            let mut interface = SP_DEVICE_INTERFACE_DATA {
                cbSize: size::<SP_DEVICE_INTERFACE_DATA>(),
                ..Default::default()
            };
            // SAFETY: a live set, a live GUID, and a live structure that says its size.
            match ok(unsafe {
                SetupDiEnumDeviceInterfaces(
                    devices.0,
                    null(),
                    &GUID_DEVINTERFACE_DISK,
                    index,
                    &raw mut interface,
                )
            }) {
                Err(Win32(ERROR_NO_MORE_ITEMS)) => break,
                result => result?,
            }
            let mut device = NO_DEVICE;
            // SP_DEVICE_INTERFACE_DETAIL_DATA_W: its own size, then the path; u32s for its alignment.
            let mut detail = [0_u32; 512];
            detail[0] = size::<SP_DEVICE_INTERFACE_DETAIL_DATA_W>();
            let (room, buffer) = (length(&detail), detail.as_mut_ptr().cast());
            // SAFETY: a live set, one of its interfaces, and a buffer of `room` bytes.
            ok(unsafe {
                SetupDiGetDeviceInterfaceDetailW(
                    devices.0,
                    &raw const interface,
                    buffer,
                    room,
                    null_mut(),
                    &raw mut device,
                )
            })?;
            let bytes: Vec<u8> = detail[1..]
                .iter()
                .flat_map(|two| two.to_le_bytes())
                .collect();
            found.push((
                devices.instance(&device)?,
                multi_string::strings(&bytes)
                    .into_iter()
                    .next()
                    .unwrap_or_default(),
            ));
        }
        Ok(found)
    }

    /// The instance IDs of all disks that Windows knows.
    fn disks() -> Answer<Vec<String>> {
        // SAFETY: as in `interfaces`.
        let set = unsafe { SetupDiGetClassDevsW(&GUID_DEVCLASS_DISKDRIVE, null(), null_mut(), 0) };
        let devices = Self::new(set)?;
        let mut found = Vec::new();
        for index in 0.. {
            let mut device = NO_DEVICE;
            // SAFETY: a live set and a live structure that says its size.
            match ok(unsafe { SetupDiEnumDeviceInfo(devices.0, index, &raw mut device) }) {
                Err(Win32(ERROR_NO_MORE_ITEMS)) => break,
                result => result?,
            }
            found.push(devices.instance(&device)?);
        }
        Ok(found)
    }
}

/// Moves a file; to nowhere is its deletion.
fn move_file(from: &str, to: Option<&str>, flags: MOVE_FILE_FLAGS) -> Answer<()> {
    let (from, to) = (wide(from), to.map(wide));
    let to = to.as_ref().map_or(null(), Vec::as_ptr);
    // SAFETY: strings with their NULs, or null.
    ok(unsafe { MoveFileExW(from.as_ptr(), to, flags) })
}

/// SetupAPI's number for a property that [`Key::Device`] has.
fn property(name: &str) -> Answer<u32> {
    match name {
        "LowerFilters" => Ok(SPDRP_LOWERFILTERS),
        "UpperFilters" => Ok(SPDRP_UPPERFILTERS),
        "FriendlyName" => Ok(SPDRP_FRIENDLYNAME),
        _ => Err(Win32::INVALID_DATA),
    }
}

fn device_value(instance: &str, name: &str) -> Answer<Option<Value>> {
    let (devices, device) = Devices::one(instance)?;
    let mut value = Value {
        kind: 0,
        data: vec![0; 4096],
    };
    let mut needed = 0;
    loop {
        let (kind, room, buffer) = (
            &raw mut value.kind,
            length(&value.data),
            value.data.as_mut_ptr(),
        );
        // SAFETY: a live set, one of its devices, and a buffer of `room` bytes.
        let result = ok(unsafe {
            SetupDiGetDeviceRegistryPropertyW(
                devices.0,
                &raw const device,
                property(name)?,
                kind,
                buffer,
                room,
                &raw mut needed,
            )
        });
        value.data.resize(needed as usize, 0);
        match result {
            Err(Win32(ERROR_INSUFFICIENT_BUFFER)) => {}
            // There is no such property.
            Err(Win32(ERROR_INVALID_DATA)) => return Ok(None),
            result => return result.map(|()| Some(value)),
        }
    }
}

fn set_device_value(instance: &str, name: &str, value: Option<&Value>) -> Answer<()> {
    let (devices, mut device) = Devices::one(instance)?;
    // No data clears the property.
    let (data, size) = value.map_or((null(), 0), |value| {
        (value.data.as_ptr(), length(&value.data))
    });
    // SAFETY: a live set, one of its devices, and `size` bytes of data.
    ok(unsafe {
        SetupDiSetDeviceRegistryPropertyW(devices.0, &raw mut device, property(name)?, data, size)
    })
}

fn hardware_key(instance: &str, write: bool) -> Answer<Open> {
    let (devices, device) = Devices::one(instance)?;
    let device = &raw const device;
    let key = if write {
        // SAFETY: a live set and one of its devices; null means no INF.
        unsafe {
            SetupDiCreateDevRegKeyW(
                devices.0,
                device,
                DICS_FLAG_GLOBAL,
                0,
                DIREG_DEV,
                null_mut(),
                null(),
            )
        }
    } else {
        // SAFETY: as above.
        unsafe {
            SetupDiOpenDevRegKey(
                devices.0,
                device,
                DICS_FLAG_GLOBAL,
                0,
                DIREG_DEV,
                KEY_QUERY_VALUE,
            )
        }
    };
    // INVALID_HANDLE_VALUE
    if key.addr() == usize::MAX {
        Err(last_error())
    } else {
        Ok(Open(key))
    }
}

/// A handle of the service control manager.
struct Service(SC_HANDLE);

impl Drop for Service {
    fn drop(&mut self) {
        // SAFETY: the handle is open, and nobody else closes it.
        unsafe { CloseServiceHandle(self.0) };
    }
}

impl Service {
    fn new(handle: SC_HANDLE) -> Answer<Self> {
        if handle.is_null() {
            Err(last_error())
        } else {
            Ok(Self(handle))
        }
    }

    fn manager(access: u32) -> Answer<Self> {
        // SAFETY: null means this machine and its active database.
        Self::new(unsafe { OpenSCManagerW(null(), null(), access) })
    }

    /// The filter's, if it is there.
    fn open(access: u32) -> Answer<Option<Self>> {
        let (manager, name) = (Self::manager(SC_MANAGER_CONNECT)?, wide(FILTER));
        // SAFETY: a live handle and a string with its NUL.
        match Self::new(unsafe { OpenServiceW(manager.0, name.as_ptr(), access) }) {
            Err(Win32::SERVICE_DOES_NOT_EXIST) => Ok(None),
            service => service.map(Some),
        }
    }
}

impl Machine for Windows {
    fn is_elevated(&self) -> bool {
        let mut token = null_mut();
        // SAFETY: no preconditions; a pseudo handle, which is not closed.
        let process = unsafe { GetCurrentProcess() };
        // SAFETY: a live handle; the token is written to a live place.
        let opened = unsafe { OpenProcessToken(process, TOKEN_QUERY, &raw mut token) };
        if opened == 0 {
            return false;
        }
        // SAFETY: the token was just opened, and is this function's.
        let token = unsafe { OwnedHandle::from_raw_handle(token) };
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
        let access = match access {
            Access::Ask => 0,
            Access::Read => GENERIC_READ,
            Access::ReadWrite => GENERIC_READ | GENERIC_WRITE,
        };
        let share = FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE;
        let file = OpenOptions::new()
            .access_mode(access)
            .share_mode(share)
            .open(path)?;
        Ok(Box::new(Handle(file)))
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
        let mut state = SERVICE_STATUS::default();
        // SAFETY: a live handle and a live structure.
        ok(unsafe { QueryServiceStatus(service.0, &raw mut state) })?;
        Ok(state.dwCurrentState == SERVICE_RUNNING)
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
}

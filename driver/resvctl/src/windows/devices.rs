//! The devices that the PnP manager knows: `SetupAPI`.

use std::ptr::{null, null_mut};

use windows_sys::Win32::Devices::DeviceAndDriverInstallation::{
    DICS_FLAG_GLOBAL, DIGCF_DEVICEINTERFACE, DIGCF_PRESENT, DIREG_DEV, GUID_DEVCLASS_DISKDRIVE,
    HDEVINFO, SP_DEVICE_INTERFACE_DATA, SP_DEVICE_INTERFACE_DETAIL_DATA_W, SP_DEVINFO_DATA,
    SPDRP_FRIENDLYNAME, SPDRP_LOWERFILTERS, SPDRP_UPPERFILTERS, SetupDiCreateDevRegKeyW,
    SetupDiCreateDeviceInfoList, SetupDiDestroyDeviceInfoList, SetupDiEnumDeviceInfo,
    SetupDiEnumDeviceInterfaces, SetupDiGetClassDevsW, SetupDiGetDeviceInstanceIdW,
    SetupDiGetDeviceInterfaceDetailW, SetupDiGetDeviceRegistryPropertyW, SetupDiOpenDevRegKey,
    SetupDiOpenDeviceInfoW, SetupDiSetDeviceRegistryPropertyW,
};
use windows_sys::Win32::Foundation::{
    ERROR_INSUFFICIENT_BUFFER, ERROR_INVALID_DATA, ERROR_NO_MORE_ITEMS,
};
use windows_sys::Win32::System::Ioctl::GUID_DEVINTERFACE_DISK;
use windows_sys::Win32::System::Registry::KEY_QUERY_VALUE;

use super::registry::Open;
use super::{last_error, length, narrow, ok, size, wide};
use crate::machine::{Answer, Value, Win32};
use crate::multi_string;

/// A set of devices, of SetupAPI.
pub(super) struct Devices(pub(super) HDEVINFO);

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
    pub(super) fn one(instance: &str) -> Answer<(Self, SP_DEVINFO_DATA)> {
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
    pub(super) fn interfaces() -> Answer<Vec<(String, String)>> {
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
    pub(super) fn disks() -> Answer<Vec<String>> {
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

/// SetupAPI's number for a property that [`Key::Device`] has.
fn property(name: &str) -> Answer<u32> {
    match name {
        "LowerFilters" => Ok(SPDRP_LOWERFILTERS),
        "UpperFilters" => Ok(SPDRP_UPPERFILTERS),
        "FriendlyName" => Ok(SPDRP_FRIENDLYNAME),
        _ => Err(Win32::INVALID_DATA),
    }
}

pub(super) fn device_value(instance: &str, name: &str) -> Answer<Option<Value>> {
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

pub(super) fn set_device_value(instance: &str, name: &str, value: Option<&Value>) -> Answer<()> {
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

pub(super) fn hardware_key(instance: &str, write: bool) -> Answer<Open> {
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

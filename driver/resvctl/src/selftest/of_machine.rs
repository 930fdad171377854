//! Checks of the machine as a whole; they change nothing.

use std::ops::RangeInclusive;

use scsi_reserve::NtStatus;

use super::evidence::{Evidence, Found, Untold, untold};
use super::subject::Subject;
use crate::disk::{self, Disk};
use crate::list::Place;
use crate::machine::{Access, Answer, Key, Loaded, Machine, Node, Value, Win32, kind};
use crate::package::INF;
use crate::system_disks::{FILE_BACKED_VIRTUAL, SETUP, SYSTEM_PARTITION, VIRTUAL};
use crate::verify::IMAGE;
use crate::{ENABLED, FILTER};

/// The driver's parameters (driver/config.rs).
pub const PARAMETERS: &str = r"SYSTEM\CurrentControlSet\Services\resvflt\Parameters";

/// A parameter as the driver takes it: none where it is absent, of another type or out of range.
pub fn parameter(
    machine: &dyn Machine,
    key: &Key,
    name: &str,
    range: RangeInclusive<u32>,
) -> Result<Option<u32>, Untold> {
    let value = machine.value(key, name).map_err(Untold::of(name))?;
    Ok(value.as_ref().and_then(dword).filter(|n| range.contains(n)))
}

fn dword(value: &Value) -> Option<u32> {
    let bytes = <[u8; 4]>::try_from(&value.data[..]).ok()?;
    (value.kind == kind::DWORD).then(|| u32::from_le_bytes(bytes))
}

/// What an image's headers say of it.
struct Headers {
    timestamp: u32,
    checksum: u32,
    size: u32,
}

impl Headers {
    /// Of a PE file (PE format, "COFF File Header" and "Optional Header Windows-Specific Fields").
    fn of(image: &[u8]) -> Option<Self> {
        let number = |at: usize| {
            let bytes = image.get(at..)?.first_chunk()?;
            Some(u32::from_le_bytes(*bytes))
        };
        let header = number(0x3C)? as usize;
        let optional = header.checked_add(24)?;
        (number(header)? == 0x4550).then_some(Self {
            timestamp: number(header + 8)?,
            size: number(optional + 56)?,
            checksum: number(optional + 64)?,
        })
    }

    /// Claims that a file is the image that is loaded.
    fn compare(&self, of: &str, loaded: &Loaded, evidence: &mut Evidence) {
        for (name, found, wanted) in [
            ("TimeDateStamp", self.timestamp, loaded.timestamp),
            ("CheckSum", self.checksum, loaded.checksum),
            ("SizeOfImage", self.size, loaded.size),
        ] {
            let name = format!("{name} of {of}");
            evidence.same(name, format!("{found:#010x}"), format!("{wanted:#010x}"));
        }
    }
}

/// The image that the kernel has.
fn running(machine: &dyn Machine) -> Result<Loaded, Untold> {
    let loaded = machine
        .loaded(IMAGE)
        .map_err(Untold::of("loaded modules"))?;
    loaded.map_or_else(|| untold("resvflt.sys is not loaded"), Ok)
}

/// A file as the kernel or a service names it, in Windows' words.
pub fn file(machine: &dyn Machine, name: &str) -> String {
    let system = machine.system();
    let windows = system.rsplit_once('\\').map_or("", |(windows, _)| windows);
    let behind = |prefix: &str| {
        let (head, tail) = name.split_at_checked(prefix.len())?;
        head.eq_ignore_ascii_case(prefix).then_some(tail)
    };
    if let Some(rest) = behind(r"\??\") {
        return rest.into();
    }
    if let Some(rest) = behind(r"\SystemRoot\").or_else(|| behind(r"%SystemRoot%\")) {
        return format!(r"{windows}\{rest}");
    }
    match name.as_bytes() {
        [b'\\', ..] => format!("{}{name}", &system[..2.min(system.len())]),
        [_, b':', ..] => name.into(),
        _ => format!(r"{windows}\{name}"),
    }
}

pub fn image(machine: &dyn Machine, evidence: &mut Evidence) -> Found {
    let loaded = running(machine)?;
    evidence.saw("path", &loaded.path);
    let path = file(machine, &loaded.path);
    let system = machine.system();
    let folders = [r"drivers\", r"DriverStore\FileRepository\"];
    let mut folders = folders
        .map(|folder| format!(r"{system}\{folder}"))
        .into_iter();
    let lower = path.to_lowercase();
    evidence.claim(
        folders.any(|folder| lower.starts_with(&folder.to_lowercase())),
        format_args!("it runs from {path}"),
    );
    let packed = format!(r"{}\{IMAGE}", machine.package());
    for (of, path, must) in [("the file", &path, true), ("the package's", &packed, false)] {
        match machine.read_file(path).map_err(Untold::of(path))? {
            Some(bytes) => match Headers::of(&bytes) {
                Some(headers) => headers.compare(of, &loaded, evidence),
                None => evidence.claim(false, format_args!("{path} is no image")),
            },
            None => evidence.claim(!must, format_args!("{path} is not there")),
        }
    }
    Ok(())
}

pub fn signature(machine: &dyn Machine, evidence: &mut Evidence) -> Found {
    let loaded = machine.loaded(IMAGE).ok().flatten();
    let path = loaded.map_or_else(
        || format!(r"{}\drivers\{IMAGE}", machine.system()),
        |loaded| file(machine, &loaded.path),
    );
    evidence.saw("file", &path);
    trusted(evidence, &path, machine.signature(&path))
}

pub fn catalog(machine: &dyn Machine, evidence: &mut Evidence) -> Found {
    let package = machine.package();
    let catalog = format!(r"{package}\{FILTER}.cat");
    let there = machine.read_file(&catalog).map_err(Untold::of(&catalog))?;
    if there.is_none() {
        return untold(format_args!("{catalog} is not there"));
    }
    for member in [IMAGE, INF] {
        let member = format!(r"{package}\{member}");
        trusted(evidence, &member, machine.signature_in(&catalog, &member))?;
    }
    Ok(())
}

/// Claims that `WinVerifyTrust` says yes to a file.
fn trusted(
    evidence: &mut Evidence,
    path: &str,
    signature: Answer<crate::machine::Signature>,
) -> Found {
    let signature = signature.map_err(Untold::of(path))?;
    let signer = signature.signer.unwrap_or_else(|| "none found".into());
    evidence.saw(format_args!("signer of {path}"), signer);
    let result = format!("{:#010x}", signature.result);
    evidence.same(
        format_args!("WinVerifyTrust of {path}"),
        result,
        format!("{:#010x}", 0),
    );
    Ok(())
}

pub fn service(machine: &dyn Machine, evidence: &mut Evidence) -> Found {
    let service = machine.service(FILTER).map_err(Untold::of("the service"))?;
    let Some(service) = service else {
        return untold("there is no service resvflt");
    };
    evidence.saw("image", service.image);
    evidence.saw("load order group", service.group);
    evidence.saw("error control", service.error_control);
    evidence.same("start", service.start, 0);
    evidence.same("state", service.state, 4); // SERVICE_RUNNING
    Ok(())
}

pub fn system_partition(machine: &dyn Machine, evidence: &mut Evidence) -> Found {
    let key = Key::Machine(SETUP.into());
    let value = machine.value(&key, SYSTEM_PARTITION);
    let value = value.map_err(Untold::of(format_args!(r"HKLM\{SETUP}")))?;
    let partition = value.map(|value| value.text()).unwrap_or_default();
    evidence.saw(SYSTEM_PARTITION, &partition);
    if !partition.starts_with('\\') {
        evidence.claim(
            false,
            format_args!(r"HKLM\{SETUP} has no {SYSTEM_PARTITION}"),
        );
        return Ok(());
    }
    match disk::under(machine, &format!(r"\\?\GLOBALROOT{partition}")) {
        Ok(disks) => {
            evidence.saw("its disks", all(&disks));
            evidence.claim(!disks.is_empty(), format_args!("{partition} is on no disk"));
            Ok(())
        }
        Err(error @ (Win32::FILE_NOT_FOUND | Win32::PATH_NOT_FOUND)) => {
            evidence.claim(false, format_args!("{partition}: {error}"));
            Ok(())
        }
        Err(error) => untold(format_args!("{partition}: {error}")),
    }
}

fn all(disks: &[Disk]) -> String {
    let disks: Vec<String> = disks.iter().map(Disk::to_string).collect();
    disks.join(", ")
}

pub fn file_disk(machine: &dyn Machine, evidence: &mut Evidence) -> Found {
    let mut files = 0;
    for (disk, _) in disk::present(machine)? {
        let bus = disk.descriptor(machine).map(|told| told.bus_type());
        if !matches!(bus, Some(FILE_BACKED_VIRTUAL | VIRTUAL)) {
            continue;
        }
        let device = machine.open(&disk.path(), Access::Ask);
        let device = device.map_err(Untold::of(disk))?;
        let volumes = device.host_volumes();
        // Since Windows 8 a VHD calls itself file-backed, and what is plainly virtual may be a RAM disk.
        if bus == Some(VIRTUAL) && volumes == Err(Win32::NOT_VIRTUAL_DISK) {
            continue;
        }
        files += 1;
        match volumes {
            Ok(volumes) => {
                evidence.saw(format_args!("{disk}'s file is on"), volumes.join(", "));
                evidence.claim(!volumes.is_empty(), format_args!("{disk}: no volume"));
                for volume in volumes {
                    let opened = machine.open(volume.trim_end_matches('\\'), Access::Ask);
                    evidence.claim(opened.is_ok(), format_args!("{volume} is not there"));
                }
            }
            Err(Win32::NOT_SUPPORTED) => return untold("this machine can't be asked"),
            Err(error) => evidence.claim(false, format_args!("{disk}: {error}")),
        }
    }
    match files {
        0 => untold("no disk here is a file"),
        _ => Ok(()),
    }
}

/// docs/troubleshooting.md, "By status".
pub const WIN32_ERRORS: [(NtStatus, u32); 15] = [
    (NtStatus::SUCCESS, 0),
    (NtStatus::DEVICE_BUSY, 170),
    (NtStatus::INVALID_DEVICE_REQUEST, 1),
    (NtStatus::NO_MEDIA_IN_DEVICE, 21),
    (NtStatus::ACCESS_DENIED, 5),
    (NtStatus::BUFFER_TOO_SMALL, 122),
    (NtStatus::INSUFFICIENT_RESOURCES, 1450),
    (NtStatus::DEVICE_DATA_ERROR, 23),
    (NtStatus::DEVICE_NOT_CONNECTED, 1167),
    (NtStatus::DEVICE_NOT_READY, 21),
    (NtStatus::IO_TIMEOUT, 121),
    (NtStatus::CANCELLED, 995),
    (NtStatus::INVALID_DEVICE_STATE, 22),
    (NtStatus::IO_DEVICE_ERROR, 1117),
    (NtStatus::DEVICE_HARDWARE_ERROR, 483),
];

pub fn win32_errors(machine: &dyn Machine, evidence: &mut Evidence) -> Found {
    for (status, wanted) in WIN32_ERRORS {
        let name = status.name().unwrap_or("NTSTATUS");
        let Win32(found) = machine.win32_of(status.0).map_err(Untold::of(name))?;
        evidence.same(name, found, wanted);
    }
    Ok(())
}

/// Claims that the stacks of disks of some kind don't have the filter.
fn left_alone(
    machine: &dyn Machine,
    evidence: &mut Evidence,
    none: &str,
    is_of_kind: impl Fn(&Node) -> Result<bool, Untold>,
) -> Found {
    let mut of_kind = 0;
    for (disk, node) in disk::present(machine)? {
        if !is_of_kind(&node)? {
            continue;
        }
        of_kind += 1;
        let subject = Subject::new(machine, disk, node);
        evidence.saw(disk, subject.stack()?.join(", "));
        let has_it = subject.place()? != Place::None;
        evidence.claim(!has_it, format_args!("{disk} has the filter"));
    }
    match of_kind {
        0 => untold(none),
        _ => Ok(()),
    }
}

pub fn mpio(machine: &dyn Machine, evidence: &mut Evidence) -> Found {
    left_alone(machine, evidence, "MPIO has no disk here", |node| {
        Ok(node.is_mpio())
    })
}

pub fn excluded(machine: &dyn Machine, evidence: &mut Evidence) -> Found {
    let key = Key::Machine(PARAMETERS.into());
    let only_enabled = parameter(machine, &key, "AttachMode", 0..=1)? == Some(1);
    evidence.saw("AttachMode", u32::from(only_enabled));
    left_alone(machine, evidence, "no disk is excluded", |node| {
        is_excluded(machine, node, only_enabled)
    })
}

/// True of a disk that the driver's parameters keep it off.
fn is_excluded(machine: &dyn Machine, node: &Node, only_enabled: bool) -> Result<bool, Untold> {
    let enabled = parameter(machine, &node.hardware_key(), ENABLED, 0..=1)?;
    Ok(enabled == Some(0) || (only_enabled && enabled.is_none()))
}

/// Why the driver leaves a disk alone, if it does.
pub fn why_left_alone(machine: &dyn Machine, node: &Node) -> Result<Option<&'static str>, Untold> {
    let key = Key::Machine(PARAMETERS.into());
    let only_enabled = parameter(machine, &key, "AttachMode", 0..=1)? == Some(1);
    Ok(if node.is_mpio() {
        Some("a disk of MPIO's is left alone")
    } else {
        is_excluded(machine, node, only_enabled)?.then_some("the disk is excluded")
    })
}

pub fn driver_verifier(machine: &dyn Machine, evidence: &mut Evidence) -> Found {
    let verified = machine.verified(IMAGE);
    let Some(verified) = verified.map_err(Untold::of("Driver Verifier"))? else {
        return untold("Driver Verifier does not watch it: `resvctl verify on`, and a restart");
    };
    evidence.saw("flags", format_args!("{:#x}", verified.flags));
    evidence.saw("loads", verified.loads);
    evidence.saw("unloads", verified.unloads);
    evidence.saw("allocations", verified.allocations);
    evidence.saw("failed on purpose", verified.failed_on_purpose);
    evidence.claim(
        verified.loads > verified.unloads,
        "it counts no load of the driver that runs",
    );
    evidence.same("allocated now", verified.outstanding, 0);
    Ok(())
}

/// The build of Windows 10 1809, with which WDF verification became a choice of its own.
const WDF_RULES: u32 = 17_763;

/// `FxRegistrySettingsInitialize` (microsoft/Windows-Driver-Frameworks, src/framework/shared/object/globals.cpp): absent,
/// VerifierOn is whether Driver Verifier watches the driver with its WDF rules.
pub fn kmdf_verifier(machine: &dyn Machine, evidence: &mut Evidence) -> Found {
    let key = Key::Machine(format!(r"{PARAMETERS}\Wdf"));
    let value = machine.value(&key, "VerifierOn");
    let value = value.map_err(Untold::of("VerifierOn"))?;
    let verified = machine.verified(IMAGE);
    let verified = verified.map_err(Untold::of("Driver Verifier"))?;
    // Before Windows 10 1809 they were no choice of their own (Microsoft's page "Verifier Command Line", /standard).
    let wdf = verified.map(|it| it.wdf.or((machine.build() < WDF_RULES).then_some(true)));
    let verified = verified.is_some();
    let on = value.as_ref().map(dword);
    evidence.saw(
        "VerifierOn",
        match on {
            None => "absent".into(),
            Some(None) => "of another type than REG_DWORD".into(),
            Some(Some(number)) => number.to_string(),
        },
    );
    evidence.saw("Driver Verifier watches it", verified);
    if let Some(wdf) = wdf {
        let wdf = wdf.map_or_else(|| "not told".into(), |wdf| wdf.to_string());
        evidence.saw("with its WDF rules", wdf);
    }
    match on {
        None | Some(Some(0)) if !verified => untold("neither asks for it"),
        None => match wdf.flatten() {
            None => {
                untold("this Windows does not tell whether Driver Verifier has its WDF rules on")
            }
            Some(wdf) => {
                evidence.claim(wdf, "Driver Verifier watches it without its WDF rules");
                Ok(())
            }
        },
        Some(number) => {
            let on = number.is_some_and(|number| number > 0);
            evidence.claim(on, "VerifierOn keeps it off");
            Ok(())
        }
    }
}

//! The table of checks: what each settles, how it finds out, and what it needs to be run.

use std::fmt;

use super::evidence::{Evidence, Found};
use super::of_reserve::Reserver;
use super::peer::Story;
use super::subject::Subject;
use super::{of_disk, of_machine, of_reserve, peer};
use crate::machine::Machine;

/// What a check needs beyond the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Nothing: it is of the machine.
    Nothing,
    /// The driver package, in the folder of resvctl.exe.
    Package,
    /// A disk, which it changes nothing on.
    Disk,
    /// A disk that it may reserve.
    WithReserve,
    /// The same, and a machine that it may have sleep.
    WithSleep,
    /// The same, and a second node that runs it, too.
    Peer,
}

impl fmt::Display for Needs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "nothing",
            Self::Package => "the package's folder",
            Self::Disk => "a disk",
            Self::WithReserve => "--with-reserve",
            Self::WithSleep => "--with-sleep",
            Self::Peer => "--peer",
        })
    }
}

/// One check.
pub struct Check {
    /// What it is called: here, in reports, and as a heading of docs/selftest.md.
    pub id: &'static str,
    /// The sentence of the docs that it settles.
    pub sentence: &'static str,
    /// How it finds out.
    pub how: &'static str,
    /// What it needs.
    pub needs: Needs,
    pub(super) find: Find,
}

/// How it is carried out: on the machine, a disk, a disk that may be reserved, or what two nodes saw.
#[derive(Clone, Copy)]
pub(super) enum Find {
    Machine(fn(&dyn Machine, &mut Evidence) -> Found),
    Disk(fn(&Subject<'_>, &mut Evidence) -> Found),
    Reserve(fn(&Reserver<'_>, &mut Evidence) -> Found),
    Peer(fn(&Story, &mut Evidence) -> Found),
}

macro_rules! checks {
    ($($id:literal, $needs:ident, $kind:ident $find:path: $sentence:literal $how:literal)*) => {
        /// All checks, in the order in which they are run.
        pub const CHECKS: &[Check] = &[$(Check {
            id: $id,
            sentence: $sentence,
            how: $how,
            needs: Needs::$needs,
            find: Find::$kind($find),
        },)*];
    };
}

checks! {
    "image", Nothing, Machine of_machine::image:
        "The resvflt.sys that runs is the one in System32\\drivers (path, TimeDateStamp, CheckSum, SizeOfImage of the loaded module against the file's headers; and the package's beside resvctl.exe, where it is)"
        "Path, TimeDateStamp, CheckSum and SizeOfImage of the loaded module are compared with the headers of the file that \
         it names (a driver package's runs from the driver store), and with those of the package's, where that lies beside resvctl.exe."
    "signature", Nothing, Machine of_machine::signature:
        "Windows trusts the signature in resvflt.sys"
        "WinVerifyTrust is asked about the file that runs, by the signature in it."
    "catalog", Package, Machine of_machine::catalog:
        "Windows takes the package's catalog for resvflt.sys and resvflt.inf"
        "WinVerifyTrust is asked about both files by the catalog beside resvctl.exe."
    "service", Nothing, Machine of_machine::service:
        "The service starts at boot (0) and runs"
        "The service control manager is asked for its configuration and state."
    "system-partition", Nothing, Machine of_machine::system_partition:
        "Windows writes SystemPartition at each start, and it names a partition that is there"
        "The value is read from HKLM\\SYSTEM\\Setup, and what it names is opened and asked which disk it is on."
    "file-disk", Nothing, Machine of_machine::file_disk:
        "Of a disk that is a file Windows tells the volume that has it"
        "Each disk whose bus type is a virtual one is asked for its storage dependencies, and each volume that it names is opened."
    "win32-errors", Nothing, Machine of_machine::win32_errors:
        "Each NTSTATUS is the Win32 error that docs/troubleshooting.md says"
        "RtlNtStatusToDosError is asked for each of that page's table."
    "stack", Disk, Disk of_disk::stack:
        "The filter stands in a disk's stack where the lists of filters say: LowerFilters (device, class) right below disk, UpperFilters above"
        "The drivers of the device's stack are compared with its lists and its class's: between disk and the filter may be what \
         the same lists name, and nothing else. A disk whose lists don't name it, but whose stack has it, has it by the package: below."
    "query", Disk, Disk of_disk::query:
        "The state query reaches the filter through disk.sys; a disk without the filter answers ERROR_INVALID_FUNCTION"
        "The query is sent to the disk, and its answer compared with whether the stack has the filter."
    "query-sizes", Disk, Disk of_disk::query_sizes:
        "A buffer that is too small gets ERROR_INSUFFICIENT_BUFFER, one of version 1's size version 1"
        "The query is sent with buffers of none, of one byte less than version 1, of version 1's and of the newest's size."
    "handle-access", Disk, Disk of_disk::handle_access:
        "A handle without FILE_READ_ACCESS is refused the state query"
        "The query is sent by a handle that was opened without any right."
    "parameters", Disk, Disk of_disk::parameters:
        "The parameters are those that the registry has, defaults where it has none or a wrong one (state query version 2)"
        "Version 2 of the state query is compared with the values in the service's Parameters key."
    "timeout", Disk, Disk of_disk::timeout:
        "Without TimeoutSeconds a disk's commands get Disk's TimeOutValue, 10 s without that (state query version 2)"
        "The timeout in version 2 of the state query is compared with the registry's values."
    "mpio", Nothing, Machine of_machine::mpio:
        "MPIO's pseudo-disks are left alone"
        "The stack of each disk whose instance ID begins with MPIO is read."
    "excluded", Nothing, Machine of_machine::excluded:
        "A disk with ResvFltEnabled 0 is left alone (and with AttachMode 1 one without ResvFltEnabled 1)"
        "The stack of each disk is read whose hardware key and the service's parameters say so."
    "port-refusal", Disk, Disk of_disk::port_refusal:
        "A port hands over a command that the target refused: status (SUCCESS, or which error), ScsiStatus CHECK CONDITION and the sense data (INQUIRY with EVPD and a page that no unit has, by IOCTL_SCSI_PASS_THROUGH: reads nothing, changes nothing)"
        "INQUIRY with EVPD, of a page that no unit has, is sent by IOCTL_SCSI_PASS_THROUGH: it reads nothing and changes nothing."
    "driver-verifier", Nothing, Machine of_machine::driver_verifier:
        "Driver Verifier watches resvflt.sys and counts (loads, allocations; nothing left over)"
        "Its counts are read: loads, allocations, and what is allocated now, which is to be nothing."
    "kmdf-verifier", Nothing, Machine of_machine::kmdf_verifier:
        "KMDF Verifier is on for resvflt (VerifierOn below Parameters\\Wdf, or Driver Verifier's WDF flag)"
        "VerifierOn below the service's Parameters\\Wdf is read; where it is absent, whether Driver Verifier watches the driver \
         and has its WDF rules on."
    "served-by", WithReserve, Reserve of_reserve::served_by:
        "disk.sys serves a handle's RESERVE above a lower filter, an upper filter serves it itself (its counters before and after)"
        "The filter's count of requests is read before and after a RESERVE."
    "watched", WithReserve, Reserve of_reserve::watched:
        "With Watch 1 or 2 a lower filter knows of a handle's RESERVE: held by us, from another's request (state query version 2)"
        "Version 2 of the state query is read after a RESERVE that disk.sys served, and after its RELEASE."
    "spellings", WithReserve, Reserve of_reserve::spellings:
        "The DISK, CDROM and TAPE spellings of RESERVE and RELEASE are served as STORAGE's"
        "Each is sent, and must end as STORAGE's does and be counted as often by the filter."
    "information", WithReserve, Reserve of_reserve::information:
        "Information is 0"
        "RESERVE and RELEASE are sent by an overlapped handle, and InternalHigh is read."
    "read-only-handle", WithReserve, Reserve of_reserve::read_only_handle:
        "A handle opened for reading only serves"
        "RESERVE and RELEASE are sent by a handle that was opened with GENERIC_READ alone."
    "ten-byte", WithReserve, Reserve of_reserve::ten_byte:
        "A unit that refuses RESERVE(6) is sent RESERVE(10)"
        "RESERVE(6) is sent by IOCTL_SCSI_PASS_THROUGH; where the unit refuses it, IOCTL_STORAGE_RESERVE must be granted all the same."
    "cancel-queued", WithReserve, Reserve of_reserve::cancel_queued:
        "CancelIoEx ends a queued request at once with STATUS_CANCELLED, and it is never sent"
        "Many RESERVEs are sent at once and the last is cancelled while the one before it is still out; the filter's count of \
         requests that it began to serve must leave it out."
    "process-ends", WithReserve, Reserve of_reserve::process_ends:
        "A process that is killed with requests out ends, and the disk serves on"
        "Another resvctl sends many RESERVEs at once and is killed; the filter's counts tell how many of them were still out. \
         Then RESERVE and RELEASE are sent."
    "events", WithReserve, Reserve of_reserve::events:
        "ETW events arrive in a session of its own and decode"
        "A session records the provider during a RESERVE and a RELEASE; each must be there with every field that \
         driver/EVENTS.md lists, and say what the caller was told."
    "sleep", WithSleep, Reserve of_reserve::sleep:
        "After sleep what is known of the reservation is unknown, and the disk serves on"
        "The machine sleeps for half a minute while it holds the disk; the state query is read before and after, then RESERVE \
         and RELEASE are sent."
    "peer-conflict", Peer, Peer peer::conflict:
        "While one node holds the disk the other gets ERROR_BUSY, and each knows so"
        "One node sends RESERVE, then the other; each reads its state query."
    "peer-release", Peer, Peer peer::release:
        "After the holder's RELEASE the other gets it"
        "The holder sends RELEASE, then the other RESERVE and the first one again, which now meets the conflict."
    "peer-reset", Peer, Peer peer::reset:
        "After `break` by one node neither knows that it holds the disk, and RESERVE gets it"
        "The holder sends IOCTL_STORAGE_BREAK_RESERVATION; each reads its state query; then the other sends RESERVE."
}

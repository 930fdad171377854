//! NTSTATUS values: how they are told apart, and how a log shows them.

use scsi_reserve::NtStatus;

#[test]
fn success_and_information_are_success_and_nothing_else_is() {
    for (value, success) in [
        (0x0000_0000, true),
        (0x0000_0103, true),
        (0x7FFF_FFFF, true),
        (0x8000_0000, false),
        (0xC000_0001, false),
        (0xFFFF_FFFF, false),
    ] {
        let status = NtStatus(u32::cast_signed(value));
        assert_eq!(status.is_success(), success, "{value:#X}");
    }
}

#[test]
fn a_status_is_shown_by_its_name_and_its_value() {
    for (status, shown) in [
        (NtStatus::SUCCESS, "STATUS_SUCCESS (0x00000000)"),
        (NtStatus::DEVICE_BUSY, "STATUS_DEVICE_BUSY (0x80000011)"),
        (NtStatus::IO_TIMEOUT, "STATUS_IO_TIMEOUT (0xC00000B5)"),
        (NtStatus(0x4000_0000), "NTSTATUS (0x40000000)"),
    ] {
        assert_eq!(format!("{status:?}"), shown);
    }
}

//! The bytes of the commands, and the control codes that ask for them.

use scsi_reserve::{Cdb, Command, Control, Form, IOCTL_RESVFLT_QUERY_STATE};

const RESERVE: [u32; 4] = [0x002D_4810, 0x0007_4810, 0x0002_4810, 0x001F_4810];
const RELEASE: [u32; 4] = [0x002D_4814, 0x0007_4814, 0x0002_4814, 0x001F_4814];

#[test]
fn a_command_block_is_its_operation_code_and_zeros() {
    for (command, form, code, length) in [
        (Command::Reserve, Form::Six, 0x16, 6),
        (Command::Release, Form::Six, 0x17, 6),
        (Command::Reserve, Form::Ten, 0x56, 10),
        (Command::Release, Form::Ten, 0x57, 10),
    ] {
        let cdb = Cdb::new(command, form);
        assert_eq!(
            (cdb.operation_code(), cdb.length()),
            (code, length),
            "{command:?} {form:?}"
        );
    }
}

/// All codes of the five device types that matter, and the functions that matter under every device
/// type.
#[test]
fn twelve_control_codes_and_none_beside_them_matter() {
    const QUERY: u32 = 0x8016_6058;
    const RESETS: [u32; 3] = [0x002D_5014, 0x002D_5000, 0x002D_5004];
    assert_eq!(IOCTL_RESVFLT_QUERY_STATE, QUERY);
    let of_these_devices = [0x2D, 0x07, 0x02, 0x1F, 0x8016]
        .into_iter()
        .flat_map(|device: u32| (0..=0xFFFF).map(move |low| device << 16 | low));
    let of_these_functions = (0..=0xFFFF_u32).flat_map(|device| {
        [0x4810, 0x4814, 0x5000, 0x5004, 0x5014, 0x6058].map(|function| device << 16 | function)
    });
    for code in of_these_devices.chain(of_these_functions) {
        let expected = match code {
            _ if RESERVE.contains(&code) => Control::Serve(Command::Reserve),
            _ if RELEASE.contains(&code) => Control::Serve(Command::Release),
            _ if RESETS.contains(&code) => Control::Reset,
            QUERY => Control::QueryState,
            _ => Control::Foreign,
        };
        assert_eq!(Control::of(code), expected, "{code:#X}");
        let command = match expected {
            Control::Serve(command) => Some(command),
            _ => None,
        };
        assert_eq!(Command::from_ioctl(code), command, "{code:#X}");
    }
}

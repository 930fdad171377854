//! The bytes of the commands, and the control codes that ask for them.

use scsi_reserve::{Cdb, Command, Form};

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
        let mut expected = vec![0; length];
        expected[0] = code;
        assert_eq!(
            Cdb::new(command, form).as_bytes(),
            expected,
            "{command:?} {form:?}"
        );
    }
}

/// All codes of the four device types, and the two functions under every device type.
#[test]
fn eight_control_codes_and_none_beside_them_are_ours() {
    let of_our_devices = [0x2D, 0x07, 0x02, 0x1F]
        .into_iter()
        .flat_map(|device: u32| (0..=0xFFFF).map(move |low| device << 16 | low));
    let of_our_functions = (0..=0xFFFF_u32)
        .flat_map(|device| [0x4810, 0x4814].map(|function| device << 16 | function));
    for code in of_our_devices.chain(of_our_functions) {
        let expected = match code {
            _ if RESERVE.contains(&code) => Some(Command::Reserve),
            _ if RELEASE.contains(&code) => Some(Command::Release),
            _ => None,
        };
        assert_eq!(Command::from_ioctl(code), expected, "{code:#X}");
    }
}

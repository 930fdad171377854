//! The NTSTATUS values that answers arrive with and that callers are given.

use core::fmt;

/// An `NTSTATUS`; the values are those of \[MS-ERREF\] 2.3.1.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct NtStatus(pub i32);

macro_rules! statuses {
    ($($name:ident $value:literal)*) => {
        impl NtStatus {
            $(
                #[doc = concat!("`STATUS_", stringify!($name), "`, ", stringify!($value))]
                pub const $name: Self = Self(u32::cast_signed($value));
            )*

            /// The name in `ntstatus.h`, for the values that this crate knows.
            #[must_use]
            pub const fn name(self) -> Option<&'static str> {
                match self {
                    $(Self::$name => Some(concat!("STATUS_", stringify!($name))),)*
                    _ => None,
                }
            }
        }
    };
}

statuses! {
    SUCCESS                 0x0000_0000
    PENDING                 0x0000_0103
    BUFFER_OVERFLOW         0x8000_0005
    DEVICE_POWERED_OFF      0x8000_000F
    DEVICE_OFF_LINE         0x8000_0010
    DEVICE_BUSY             0x8000_0011
    NO_MORE_ENTRIES         0x8000_001A
    UNSUCCESSFUL            0xC000_0001
    NOT_IMPLEMENTED         0xC000_0002
    NO_SUCH_DEVICE          0xC000_000E
    INVALID_DEVICE_REQUEST  0xC000_0010
    NO_MEDIA_IN_DEVICE      0xC000_0013
    ACCESS_DENIED           0xC000_0022
    BUFFER_TOO_SMALL        0xC000_0023
    OBJECT_TYPE_MISMATCH    0xC000_0024
    OBJECT_NAME_NOT_FOUND   0xC000_0034
    DELETE_PENDING          0xC000_0056
    INSUFFICIENT_RESOURCES  0xC000_009A
    DEVICE_DATA_ERROR       0xC000_009C
    DEVICE_NOT_CONNECTED    0xC000_009D
    DEVICE_NOT_READY        0xC000_00A3
    IO_TIMEOUT              0xC000_00B5
    NOT_SUPPORTED           0xC000_00BB
    DEVICE_DOES_NOT_EXIST   0xC000_00C0
    CANCELLED               0xC000_0120
    NO_MEDIA                0xC000_0178
    INVALID_DEVICE_STATE    0xC000_0184
    IO_DEVICE_ERROR         0xC000_0185
    CONNECTION_DISCONNECTED 0xC000_020C
    CONNECTION_RESET        0xC000_020D
    REQUEST_ABORTED         0xC000_0240
    DEVICE_REMOVED          0xC000_02B6
    DEVICE_HARDWARE_ERROR   0xC000_0483
}

impl NtStatus {
    /// What the `NT_SUCCESS` macro says: true of success and informational values.
    #[must_use]
    #[inline]
    pub const fn is_success(self) -> bool {
        self.0 >= 0
    }
}

impl fmt::Debug for NtStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} ({:#010X})",
            self.name().unwrap_or("NTSTATUS"),
            self.0
        )
    }
}

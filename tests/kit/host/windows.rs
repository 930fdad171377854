//! Stand-in for the `windows` crate where it does not compile. wdk-build links it to look for the WDK in the registry;
//! here every registry call fails, so that it turns to `WDKContentRoot`.
#![no_std]
#[macro_export]
macro_rules! s {
    ($text:literal) => {
        $crate::core::PCSTR(::core::concat!($text, "\0").as_ptr())
    };
}
pub mod core {
    pub use crate::s;
    #[derive(Clone, Copy)]
    pub struct PCSTR(pub *const u8);
}
pub mod Win32 {
    pub mod System {
        pub mod Registry {
            use crate::core::PCSTR;
            use ::core::ffi::c_void;
            #[derive(Clone, Copy, Default)]
            pub struct HKEY(u8);
            pub const HKEY_LOCAL_MACHINE: HKEY = HKEY(0);
            pub const KEY_READ: u32 = 0;
            pub const RRF_RT_REG_SZ: u32 = 0;
            pub struct Absent;
            impl Absent {
                pub fn is_ok(self) -> bool {
                    false
                }
                pub fn ok(self) -> Result<(), ()> {
                    Err(())
                }
            }
            pub unsafe fn RegOpenKeyExA(_: HKEY, _: PCSTR, _: Option<u32>, _: u32, _: *mut HKEY) -> Absent {
                Absent
            }
            pub unsafe fn RegGetValueA(
                _: HKEY,
                _: Option<PCSTR>,
                _: PCSTR,
                _: u32,
                _: Option<*mut u32>,
                _: Option<*mut c_void>,
                _: Option<*mut u32>,
            ) -> Absent {
                Absent
            }
            pub unsafe fn RegCloseKey(_: HKEY) -> Absent {
                Absent
            }
        }
    }
}

#![cfg_attr(windows, no_std)]

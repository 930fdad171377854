/* Control Flow Guard's part of the image: its load configuration, and the pointers through which guarded code calls.
 * Both pointers lead to functions that allow every target; a kernel that enforces the guard puts its own there. Layout:
 * IMAGE_LOAD_CONFIG_DIRECTORY64 of Microsoft's PE format page, up to the tables that lld-link fills. */
    .intel_syntax noprefix

    .globl @feat.00                     /* this object tells its address-taken functions itself: none */
    .set @feat.00, 0x800

    .section .rdata, "dr"
    .globl _load_config_used
    .balign 8
_load_config_used:
    .long 192                           /* Size */
    .fill 27, 4, 0                      /* to SEHandlerCount: none of it applies */
    .quad __guard_check_icall_fptr      /* GuardCFCheckFunctionPointer */
    .quad __guard_dispatch_icall_fptr   /* GuardCFDispatchFunctionPointer */
    .quad __guard_fids_table            /* GuardCFFunctionTable */
    .quad __guard_fids_count            /* GuardCFFunctionCount */
    .long __guard_flags                 /* GuardFlags */
    .fill 3, 4, 0                       /* CodeIntegrity */
    .quad __guard_iat_table             /* GuardAddressTakenIatEntryTable */
    .quad __guard_iat_count             /* GuardAddressTakenIatEntryCount */
    .quad __guard_longjmp_table         /* GuardLongJumpTargetTable */
    .quad __guard_longjmp_count         /* GuardLongJumpTargetCount */

    .section .00cfg, "dr"
    .globl __guard_check_icall_fptr
    .globl __guard_dispatch_icall_fptr
    .balign 8
__guard_check_icall_fptr:
    .quad check
__guard_dispatch_icall_fptr:
    .quad dispatch

    .text
    .balign 16
    .def check; .scl 3; .type 32; .endef
check:                                  /* target in rcx */
    ret
    .balign 16
    .def dispatch; .scl 3; .type 32; .endef
dispatch:                               /* target in rax */
    jmp rax

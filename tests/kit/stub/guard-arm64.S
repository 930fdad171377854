/* As guard-x64.S, for ARM64. There guarded code calls the check with the target in x15 and then the target itself, so
 * that nothing is called through a dispatch function (LLVM's CFGuard pass; Microsoft's "ARM64 ABI conventions"). */
    .globl @feat.00                     /* this object tells its address-taken functions itself: none */
    .set @feat.00, 0x800

    .section .rdata, "dr"
    .globl _load_config_used
    .balign 8
_load_config_used:
    .long 192                           /* Size */
    .fill 27, 4, 0                      /* to SEHandlerCount: none of it applies */
    .quad __guard_check_icall_fptr      /* GuardCFCheckFunctionPointer */
    .quad 0                             /* GuardCFDispatchFunctionPointer */
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
    .balign 8
__guard_check_icall_fptr:
    .quad check

    .text
    .balign 16
    .def check; .scl 3; .type 32; .endef
check:                                  /* target in x15 */
    ret

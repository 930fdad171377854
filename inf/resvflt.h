/* The resvflt status query: what this node last knew of its SCSI reservation of a disk.
 *
 * DeviceIoControl with IOCTL_RESVFLT_QUERY_STATE on a handle to the disk (\\.\PhysicalDriveN) that was opened with
 * GENERIC_READ; no input, a RESVFLT_STATE as output. A buffer of RESVFLT_STATE_SIZE_1 bytes or more, but too small for
 * this version, gets version 1, which ends before TimeoutSeconds; a smaller one gets nothing and
 * ERROR_INSUFFICIENT_BUFFER; a disk without the filter answers ERROR_INVALID_FUNCTION. */
#pragma once
#include <stdint.h>

/* CTL_CODE(0x8016, 0x816, METHOD_BUFFERED, FILE_READ_ACCESS) */
#define IOCTL_RESVFLT_QUERY_STATE 0x80166058u
#define RESVFLT_STATE_VERSION 2u
#define RESVFLT_STATE_SIZE_1 96u

/* RESVFLT_STATE.Knowledge */
#define RESVFLT_UNKNOWN 0u
#define RESVFLT_HELD_BY_US 1u
#define RESVFLT_NOT_OURS 2u /* free, or another's */
#define RESVFLT_HELD_BY_ANOTHER 3u

/* RESVFLT_STATE.Origin */
#define RESVFLT_OWN 0u     /* a request that the filter served; or nothing is known */
#define RESVFLT_WATCHED 1u /* another's SCSI request block: with the parameter Watch alone */

/* RESVFLT_STATE.ScsiStatus and .SenseKey: there is none. */
#define RESVFLT_NONE 0xFFu

/* The counters begin when the filter attaches to the disk. */
typedef struct _RESVFLT_STATE {
    uint32_t Version;        /* RESVFLT_STATE_VERSION */
    uint32_t Size;           /* of this structure, in bytes */
    uint64_t Since;          /* since when Knowledge is so: interrupt time in 100 ns, as of QueryInterruptTimePrecise */
    uint32_t Knowledge;
    int32_t LastStatus;      /* NTSTATUS that the last finished request was completed with */
    uint8_t ScsiStatus;      /* of the last answer to the latest request */
    uint8_t SenseKey;        /* of that answer */
    uint8_t Asc;
    uint8_t Ascq;
    uint32_t CdbLength;      /* form of the commands that the next request begins with: 6 or 10 bytes */
    uint64_t Requests;       /* RESERVE and RELEASE requests that the filter began to serve */
    uint64_t Reserves;       /* RESERVE commands that the target executed */
    uint64_t Releases;       /* RELEASE commands that the target executed */
    uint64_t Conflicts;      /* commands answered RESERVATION CONFLICT */
    uint64_t Retries;        /* commands sent again after a delay */
    uint64_t UnitAttentions; /* reported to a command of the filter's, and so to nobody else */
    uint64_t Timeouts;       /* commands that ended without an answer in time */
    uint64_t Cancels;        /* requests that ended cancelled */
    uint32_t TimeoutSeconds; /* that the port gives one command */
    uint32_t RetryDelayMs;   /* the parameter, as it was loaded, in milliseconds */
    uint32_t Watched;        /* others' RESERVE, RELEASE, PERSISTENT RESERVE OUT and resets that passed as SCSI request
                                blocks and were looked at, modulo 2^32 */
    uint8_t MaxRetries;      /* the parameters, as they were loaded */
    uint8_t Reserve10Fallback;
    uint8_t Watch;
    uint8_t Origin;          /* where Knowledge came from, when it became what it is */
} RESVFLT_STATE;

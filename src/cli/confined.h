/* Work on untrusted bytes in a child process that can compute, and nothing else.
 *
 * The child is a fork of this process. Before it starts it gives up: opening files, sockets, other
 * programs and processes (a seccomp filter on x86-64 and AArch64 Linux; an empty network namespace
 * where the kernel has no filters), every descriptor but the two it answers through, and more than
 * the limits below. */
#ifndef CY_CLI_CONFINED_H
#define CY_CLI_CONFINED_H

#include <stddef.h>
#include <stdint.h>

typedef struct cy_confined_limits {
    uint64_t
        memory_bytes; /* address space beyond this process's own; not in ASan, TSan builds */
    uint64_t result_bytes;
    uint32_t cpu_seconds;
    uint32_t wall_seconds;
} cy_confined_limits;

/* What the child does: leaves a result it owns in *result and returns 0, or returns a positive code
 * and a sentence. Runs in the child only. */
typedef int (*cy_confined_work)(const void *data, size_t bytes, void **result,
                                size_t *result_bytes, char *sentence,
                                size_t sentence_bytes);

typedef enum cy_confined_end {
    CY_CONFINED_DONE,    /* result and result_bytes are set */
    CY_CONFINED_REFUSED, /* the work returned a code: code and sentence are set */
    CY_CONFINED_BROKEN /* crashed, ran out of time or space, or could not start: sentence is set */
} cy_confined_end;

typedef struct cy_confined_answer {
    int code;
    char sentence[1024]; /* of a broken child: completes "FILE: ..." */
    void *result;        /* mapped, private; cy_confined_release */
    size_t result_bytes;
} cy_confined_answer;

cy_confined_end cy_confined_run(cy_confined_work work, const void *data, size_t bytes,
                                const cy_confined_limits *limits,
                                cy_confined_answer *answer);
void cy_confined_release(cy_confined_answer *answer);

/* What confines the child on this machine: "seccomp filter, limits of memory and time". */
const char *cy_confined_means(void);

#endif

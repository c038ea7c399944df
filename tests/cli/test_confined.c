/* The confined child: what it may do, what it may not, and what is said when it fails. */
#include "src/cli/confined.h"

#include <criterion/criterion.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static const cy_confined_limits roomy = {.memory_bytes = 64 << 20,
                                         .result_bytes = 1 << 20,
                                         .cpu_seconds = 20,
                                         .wall_seconds = 60};

/* Does what data[0] says; every attempt to reach out of the child returns what it got. */
static int work(const void *data, size_t bytes, void **result, size_t *result_bytes,
                char *sentence, size_t sentence_bytes)
{
    static char copy[64];
    volatile int word = 0;
    void *page;
    int got = 0, error = 0;
    errno = 0;
    switch (*(const char *)data) {
    case 'c': /* copies its input */
        memcpy(copy, data, bytes);
        *result = copy, *result_bytes = bytes;
        return 0;
    case 'r':
        snprintf(sentence, sentence_bytes, "refused, %zu bytes", bytes);
        return 5;
    case 's':
        raise(SIGSEGV);
        break;
    case 'a':
        abort();
    case 'l':
        while (word == 0)
            ;
        break;
    case 'w': /* waits for a word that nobody changes */
        for (;;)
            syscall(SYS_futex, &word, FUTEX_WAIT, 0, NULL, NULL, 0);
    case 'm':
        for (size_t taken = 0; (page = malloc(1 << 20)) != NULL; taken++) {
            memset(page, 1, 1 << 20);
            if (taken > 1000) return 9; /* a gigabyte: there is no limit */
        }
        return 2;
    case 'b': /* a result beyond what is allowed */
        *result = calloc(1, 3 << 20), *result_bytes = 3 << 20;
        return 0;
    case 'e':
        return 0; /* an empty one */
    case 'x':
        _exit(3);
    case 'f':
        got = open("/etc/passwd", O_RDONLY);
        break;
    case 'F':
        got = open("/tmp/carry-confined", O_CREAT | O_WRONLY, 0600);
        break;
    case 'n':
        got = socket(AF_INET, SOCK_STREAM, 0);
        break;
    case 'u':
        got = socket(AF_UNIX, SOCK_STREAM, 0);
        break;
    case 'p':
        got = (int)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
        break;
    case 'P':
        got = execl("/bin/true", "true", (char *)NULL);
        break;
    case 'k':
        got = kill(getppid(), 0);
        break;
    case 'g':
        got = (int)syscall(SYS_tgkill, 1, 1, 0);
        break;
    case 'i':
        got = (int)read(0, copy, 1);
        break;
    case 'o':
        got = (int)write(1, "!", 1);
        break;
    case 'X':
        page =
            mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        got = page == MAP_FAILED ? -1 : 1;
        break;
    case 'Y':
        got = mprotect((void *)((uintptr_t)&work & ~(uintptr_t)4095), 4096,
                       PROT_READ | PROT_WRITE | PROT_EXEC);
        break;
    }
    error = errno;
    snprintf(sentence, sentence_bytes, "%d %s", got < 0 ? -1 : got, strerror(error));
    return 7;
}

static cy_confined_end run(const char *text, const cy_confined_limits *limits,
                           cy_confined_answer *answer)
{
    return cy_confined_run(work, text, strlen(text), limits, answer);
}

Test(confined, gives_a_result)
{
    cy_confined_answer answer;
    cr_assert_eq(run("copy me", &roomy, &answer), CY_CONFINED_DONE);
    cr_assert_eq(answer.result_bytes, 7);
    cr_assert_eq(memcmp(answer.result, "copy me", 7), 0);
    cy_confined_release(&answer);
    cr_assert_null(answer.result);
}

Test(confined, passes_a_refusal_on)
{
    cy_confined_answer answer;
    cr_assert_eq(run("r123", &roomy, &answer), CY_CONFINED_REFUSED);
    cr_assert_eq(answer.code, 5);
    cr_assert_str_eq(answer.sentence, "refused, 4 bytes");
}

static void expect_broken(const char *text, const cy_confined_limits *limits,
                          const char *part)
{
    cy_confined_answer answer;
    cr_assert_eq(run(text, limits, &answer), CY_CONFINED_BROKEN, "%s", text);
    cr_assert_not_null(strstr(answer.sentence, part), "'%s' lacks '%s'", answer.sentence,
                       part);
    cr_assert_null(answer.result);
}

#ifndef CY_TEST_SANITIZED /* a sanitizer turns these into reports of its own */
Test(confined, survives_a_crash)
{
    expect_broken("s", &roomy, "crashed (Segmentation fault)");
    expect_broken("a", &roomy, "crashed (Aborted)");
}

Test(confined, limits_memory)
{
    cy_confined_answer answer;
    cr_assert_eq(run("m", &roomy, &answer), CY_CONFINED_REFUSED);
    cr_assert_eq(answer.code, 2, "malloc never failed");
}
#endif

Test(confined, survives_an_exit)
{
    expect_broken("x", &roomy, "without an answer (exit code 3)");
}

Test(confined, limits_processor_time)
{
    cy_confined_limits limits = roomy;
    limits.cpu_seconds = 1;
    expect_broken("l", &limits, "more than the 1 seconds of processor time");
}

Test(confined, limits_waiting)
{
    cy_confined_limits limits = roomy;
    limits.wall_seconds = 1;
    expect_broken("w", &limits, "more than the 1 seconds allowed");
}

Test(confined, limits_the_result)
{
    expect_broken("b", &roomy, "more than the 1048576 bytes");
    expect_broken("e", &roomy, "gave 0 bytes");
}

/* Where the kernel has filters, and the versions carry is built for all do. */
Test(confined, cannot_reach_out)
{
    cr_assert_not_null(strstr(cy_confined_means(), "seccomp filter"));
    char expected[64];
    snprintf(expected, sizeof expected, "-1 %s", strerror(EPERM));
    for (const char *attempt = "fFnupPkgioXY"; *attempt != 0; attempt++) {
        cy_confined_answer answer;
        char text[2] = {*attempt, 0};
        cr_assert_eq(run(text, &roomy, &answer), CY_CONFINED_REFUSED, "%c", *attempt);
        cr_assert_str_eq(answer.sentence, expected, "attempt %c", *attempt);
    }
}

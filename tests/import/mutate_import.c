/* Imports of seeded random damage: bytes of goldens changed, inside the members of archives too, with the
 * checksums made right again so that the damage reaches the readers behind them.
 *
 *     mutate_import [MUTATIONS [SEED]]
 *
 * A plain program. Children do the work in batches, because libhdf5 does fall over damaged files: a child
 * that dies is looked at where it died. Inside libhdf5 (and libzip) it is counted; anywhere else, and for a
 * sentence that is none, a leak, or a sanitizer's report, the program fails. What libhdf5 writes over in the heap may be
 * noticed much later, by a free of ours: a death elsewhere is tried again, that mutation alone in a fresh child. What is
 * carry's own fault happens again; what does not is counted as a heap that an earlier mutation destroyed. */
#define _GNU_SOURCE /* dladdr */

#include "import_support.h"

#include <dlfcn.h>
#include <execinfo.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#include <sanitizer/asan_interface.h>
#include <sanitizer/lsan_interface.h>
#else
#define SANITIZED 0
#endif

enum { BATCH = 250, CPU_SECONDS_PER_IMPORT = SANITIZED ? 5 : 1, MEMORY_BYTES_SHIFT = 32 };
enum { DIED_IN_LIBRARY = 77, DIED_IN_CARRY = 78, BAD_MANNERS = 79, LEAKED = 80 };

static const char *const goldens[] = {
    "k3_sequential.keras", "k3_ids.keras", "k2_13.keras",  "k3_sequential.h5",
    "k2_functional.h5",    "k2_0.h5",      "k3_float64.h5"};
#define GOLDEN_COUNT (sizeof goldens / sizeof *goldens)

/* ---- where a child died ------------------------------------------------------------------------- */

typedef enum frame_owner { TRANSPARENT, OWN, LIBRARY } frame_owner;

static frame_owner owner_of(void *frame)
{
    Dl_info info;
    if (!dladdr(frame, &info) || !info.dli_fname) return TRANSPARENT;
    if (strstr(info.dli_fname, "libhdf5") || strstr(info.dli_fname, "libzip") ||
        strstr(info.dli_fname, "libz."))
        return LIBRARY;
    return strstr(info.dli_fname, "mutate_import") ? OWN : TRANSPARENT;
}

/* The nearest frame that is no part of the C library or of a sanitizer tells whose fault it was. This
 * handler's own frames come first, and a transparent one between them and what broke. */
static int whose_fault(void)
{
    void *frames[64];
    int count = backtrace(frames, 64), at = 0;
    while (at < count && owner_of(frames[at]) != OWN)
        at++;
    while (at < count && owner_of(frames[at]) == OWN)
        at++;
    for (; at < count; at++)
        if (owner_of(frames[at]) != TRANSPARENT)
            return owner_of(frames[at]) == LIBRARY ? DIED_IN_LIBRARY : DIED_IN_CARRY;
    return DIED_IN_CARRY;
}

static void died(int signal_number)
{
    (void)signal_number;
    int fault = whose_fault();
    if (fault == DIED_IN_CARRY) {
        void *frames[64];
        backtrace_symbols_fd(frames, backtrace(frames, 64), 2);
    }
    _exit(fault);
}

static void catch_deaths(void)
{
    static const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGVTALRM};
    static unsigned char stack[256 * 1024];
    stack_t other = {.ss_sp = stack, .ss_size = sizeof stack};
    sigaltstack(&other, NULL);
    struct sigaction action = {.sa_handler = died, .sa_flags = SA_ONSTACK};
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
        sigaction(signals[i], &action, NULL);
    void *frames[1];
    backtrace(frames, 1); /* loads what it needs, before anything is broken */
}

#if SANITIZED
const char *__asan_default_options(void)
{
    return "handle_segv=0:handle_sigbus=0:handle_sigfpe=0:handle_sigill=0:handle_abort=0:"
           "use_sigaltstack=0:allocator_may_return_null=1:max_allocation_size_mb=4096";
}
const char *__lsan_default_suppressions(void)
{
    return "leak:libhdf5\nleak:libzip\n"; /* what they lose on damaged files is theirs */
}
const char *__lsan_default_options(void)
{
    return "print_suppressions=0";
}
/* Called before a report is printed: libhdf5 reading beyond its own buffers with memcpy is its own fault. */
void __asan_on_error(void)
{
    if (whose_fault() == DIED_IN_LIBRARY) _exit(DIED_IN_LIBRARY);
}
static void report_here(void)
{
    __sanitizer_set_report_path("stderr"); /* not among the reports that fail a test */
}
static int leaks(void)
{
    return __lsan_do_recoverable_leak_check();
}
#else
static void report_here(void)
{
}
static int leaks(void)
{
    return 0;
}
#endif

/* ---- damage ------------------------------------------------------------------------------------- */

static uint64_t next_random(uint64_t *state)
{
    *state += UINT64_C(0x9e3779b97f4a7c15);
    uint64_t z = *state;
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

/* One to eight bytes: flipped bits, random values, or the extremes that lengths and offsets fear. */
static void damage(unsigned char *data, size_t bytes, uint64_t *state)
{
    static const unsigned char extremes[] = {0x00, 0xff, 0x7f, 0x80, 0x01, 0xfe};
    for (uint64_t i = 1 + next_random(state) % 8; i && bytes; i--) {
        unsigned char *at = data + next_random(state) % bytes;
        switch (next_random(state) % 3) {
        case 0:
            *at ^= (unsigned char)(1u << next_random(state) % 8);
            break;
        case 1:
            *at = (unsigned char)next_random(state);
            break;
        default:
            *at = extremes[next_random(state) % sizeof extremes];
        }
    }
}

static blob copy_of(blob source)
{
    blob copy = {malloc(source.bytes ? source.bytes : 1), source.bytes};
    if (!copy.data) abort();
    memcpy(copy.data, source.data, source.bytes);
    return copy;
}

/* An archive with one damaged member, or (one time in four) damaged as it lies. */
static blob damaged_archive(blob golden, uint64_t *state)
{
    static const char *const names[] = {"metadata.json", "config.json",
                                        "model.weights.h5"};
    uint64_t victim = next_random(state) % 4;
    if (victim == 3) {
        blob whole = copy_of(golden);
        damage(whole.data, whole.bytes, state);
        return whole;
    }
    blob members[3];
    for (int i = 0; i < 3; i++) {
        blob member;
        if (!zip_find(golden, names[i], &member)) abort();
        members[i] = copy_of(member);
    }
    /* Mostly the weights: behind them stands the largest parser. */
    if (victim == 0 && next_random(state) % 4) victim = 2;
    damage(members[victim].data, members[victim].bytes, state);
    blob archive = keras_make(&members[0], &members[1], &members[2]);
    for (int i = 0; i < 3; i++)
        blob_free(&members[i]);
    return archive;
}

static blob damaged(const blob *files, uint64_t number, uint64_t seed)
{
    uint64_t state = seed * UINT64_C(1000003) + number;
    size_t golden = next_random(&state) % GOLDEN_COUNT;
    if (strstr(goldens[golden], ".keras")) return damaged_archive(files[golden], &state);
    blob copy = copy_of(files[golden]);
    damage(copy.data, copy.bytes, &state);
    return copy;
}

/* ---- children ----------------------------------------------------------------------------------- */

typedef struct tally {
    uint64_t at; /* the mutation in work */
    uint64_t successes;
} tally;

/* Of processor time, so that a busy machine is no failure; libhdf5 can be sent in circles. */
static void limit_time(int seconds)
{
    struct itimerval timer = {.it_value.tv_sec = seconds};
    setitimer(ITIMER_VIRTUAL, &timer, NULL);
}

static void run_batch(const blob *files, uint64_t first, uint64_t end, uint64_t seed,
                      volatile tally *shared)
{
    catch_deaths();
    report_here();
    struct rlimit memory = {(rlim_t)1 << MEMORY_BYTES_SHIFT,
                            (rlim_t)1 << MEMORY_BYTES_SHIFT};
    if (!SANITIZED) setrlimit(RLIMIT_AS, &memory);
    for (uint64_t number = first; number < end; number++) {
        shared->at = number;
        limit_time(CPU_SECONDS_PER_IMPORT);
        blob file = damaged(files, number, seed);
        outcome out;
        char what[64];
        snprintf(what, sizeof what, "mutation %llu", (unsigned long long)number);
        if (!import_checked(file.data, file.bytes, what, &out)) _exit(BAD_MANNERS);
        shared->successes += out.status == CARRY_OK;
        carry_import_free(out.model);
        blob_free(&file);
    }
    limit_time(0);
    _exit(leaks() ? LEAKED : 0);
}

/* How a child ended that did mutations first .. end - 1; 0: well. */
static int run_child(const blob *files, uint64_t first, uint64_t end, uint64_t seed,
                     volatile tally *shared)
{
    fflush(NULL);
    pid_t child = fork();
    if (child < 0) {
        perror("fork");
        exit(1);
    }
    if (child == 0) run_batch(files, first, end, seed, shared);
    int status;
    waitpid(child, &status, 0);
    if (WIFEXITED(status)) return WEXITSTATUS(status);
    fprintf(stderr, "signal %d\n", WTERMSIG(status));
    return DIED_IN_CARRY;
}

int main(int argc, char **argv)
{
    uint64_t count = argc > 1 ? strtoull(argv[1], NULL, 10) : 20000;
    uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    static blob files[GOLDEN_COUNT];
    for (size_t i = 0; i < GOLDEN_COUNT; i++)
        files[i] = golden_read(goldens[i]);
    volatile tally *shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE,
                                  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) return 1;
    uint64_t library_deaths = 0, destroyed_heaps = 0, failures = 0;
    for (uint64_t first = 0; first < count;) {
        uint64_t end = first + BATCH < count ? first + BATCH : count;
        int code = run_child(files, first, end, seed, shared);
        if (code == 0) {
            first = end;
            continue;
        }
        uint64_t at = shared->at;
        bool alone = at == first;
        if (code == DIED_IN_CARRY && !alone)
            code = run_child(files, at, at + 1, seed, shared);
        if (code == 0) {
            destroyed_heaps++;
        } else if (code == DIED_IN_LIBRARY) {
            library_deaths++;
        } else {
            failures++;
            fprintf(stderr, "mutation %llu of seed %llu: %s\n", (unsigned long long)at,
                    (unsigned long long)seed,
                    code == BAD_MANNERS ? "no clean outcome"
                    : code == LEAKED    ? "its batch leaked"
                                        : "died in carry");
        }
        first = code == LEAKED ? end : at + 1;
    }
    printf("%llu mutations: %llu imported all the same, %llu ended inside libhdf5, %llu "
           "by a heap it had destroyed, %llu failures\n",
           (unsigned long long)count, (unsigned long long)shared->successes,
           (unsigned long long)library_deaths, (unsigned long long)destroyed_heaps,
           (unsigned long long)failures);
    return failures != 0;
}

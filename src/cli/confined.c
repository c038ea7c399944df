/* A child process that can compute, and nothing else. */
#include "confined.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

#if defined(__x86_64__)
#define FILTER_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define FILTER_ARCH AUDIT_ARCH_AARCH64
#endif

/* What travels through the pipe before the sentence. */
struct answer_head {
    int32_t code;
    uint32_t sentence_bytes;
};

/* ---- in the child ----------------------------------------------------------------------------- */

#ifdef FILTER_ARCH

#define LOAD(offset) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(offset))
#define FIELD(name)  offsetof(struct seccomp_data, name)
#define ARG(i) \
    (offsetof(struct seccomp_data, args) + 8 * (i)) /* low half: both are little-endian */
#define JUMP_EQ(value, yes, no) \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(value), yes, no)
#define GIVE(action)     BPF_STMT(BPF_RET | BPF_K, action)
#define REFUSE           GIVE(SECCOMP_RET_ERRNO | EPERM)
#define ALLOW            GIVE(SECCOMP_RET_ALLOW)
#define ALLOW_CALL(name) JUMP_EQ(__NR_##name, 0, 1), ALLOW

/* Refused calls fail with EPERM rather than kill: the libraries under an importer probe for files
 * they can do without (plugins, /dev/urandom). */
static int filter_install(int result_fd, int answer_fd, int log_fd)
{
    struct sock_filter filter[] = {
        LOAD(FIELD(arch)),
        JUMP_EQ(FILTER_ARCH, 1, 0),
        GIVE(SECCOMP_RET_KILL_PROCESS),
        LOAD(FIELD(
            nr)), /* calls of the x32 table have bit 30 set and match nothing below */
        ALLOW_CALL(munmap),
        ALLOW_CALL(mremap),
        ALLOW_CALL(brk),
        ALLOW_CALL(madvise),
        ALLOW_CALL(futex),
        ALLOW_CALL(exit),
        ALLOW_CALL(exit_group),
        ALLOW_CALL(rt_sigaction),
        ALLOW_CALL(rt_sigprocmask),
        ALLOW_CALL(rt_sigreturn),
        ALLOW_CALL(sigaltstack),
        ALLOW_CALL(getpid),
        ALLOW_CALL(gettid),
        ALLOW_CALL(clock_gettime),
        ALLOW_CALL(gettimeofday),
        ALLOW_CALL(getrandom),
        ALLOW_CALL(sched_yield),
        ALLOW_CALL(sysinfo),
        /* memory, but none to execute */
        JUMP_EQ(__NR_mmap, 1, 0),
        JUMP_EQ(__NR_mprotect, 0, 4),
        LOAD(ARG(2)),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, PROT_EXEC, 0, 1),
        REFUSE,
        ALLOW,
        /* abort() of this process, and no signal to another */
        JUMP_EQ(__NR_tgkill, 0, 4),
        LOAD(ARG(0)),
        JUMP_EQ(getpid(), 0, 1),
        ALLOW,
        REFUSE,
        /* writing, through the descriptors it answers by */
        JUMP_EQ(__NR_write, 1, 0),
        JUMP_EQ(__NR_writev, 0, 5),
        LOAD(ARG(0)),
        JUMP_EQ(result_fd, 2, 0),
        JUMP_EQ(answer_fd, 1, 0),
        JUMP_EQ(log_fd, 0, 1),
        ALLOW,
        REFUSE,
    };
    struct sock_fprog program = {sizeof filter / sizeof filter[0], filter};
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

#else

static int filter_install(int result_fd, int answer_fd, int log_fd)
{
    (void)result_fd, (void)answer_fd, (void)log_fd;
    return 0;
}

#endif

static void limit_set(int resource, uint64_t soft, uint64_t hard)
{
    struct rlimit limit;
    if (getrlimit(resource, &limit) != 0) return;
    if (limit.rlim_max == RLIM_INFINITY || hard < limit.rlim_max) limit.rlim_max = hard;
    limit.rlim_cur = soft < limit.rlim_max ? soft : limit.rlim_max;
    setrlimit(resource, &limit);
}

/* Bytes of address space in use, from /proc, which the child can still open at this point. */
static uint64_t address_space_bytes(void)
{
    unsigned long long pages = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    if (file == NULL) return 0;
    if (fscanf(file, "%llu", &pages) != 1) pages = 0;
    fclose(file);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void close_all_but(int a, int b)
{
    long most = sysconf(_SC_OPEN_MAX);
    if (most < 0 || most > 65536) most = 65536;
#ifdef __NR_close_range
    int low = a < b ? a : b, high = a < b ? b : a;
    if ((low == 3 || syscall(__NR_close_range, 3u, (unsigned)low - 1, 0u) == 0) &&
        (high == low + 1 ||
         syscall(__NR_close_range, (unsigned)low + 1, (unsigned)high - 1, 0u) == 0) &&
        syscall(__NR_close_range, (unsigned)high + 1, ~0u, 0u) == 0)
        return;
#endif
    for (int fd = 3; fd < most; fd++)
        if (fd != a && fd != b) close(fd);
}

static void signals_default(void)
{
    for (int number = 1; number < NSIG; number++)
        signal(number, number == SIGPIPE ? SIG_IGN : SIG_DFL);
}

/* Gives everything up that the work does not need. */
static void confine(const cy_confined_limits *limits, int result_fd, int answer_fd)
{
    int log_fd = answer_fd;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signals_default();
    int null = open("/dev/null", O_RDWR);
    if (null >= 0) {
        dup2(null, STDIN_FILENO);
        dup2(null, STDOUT_FILENO);
#ifdef NDEBUG
        dup2(null, STDERR_FILENO); /* the parent says the one sentence */
#else
        log_fd = STDERR_FILENO; /* what a sanitizer found is worth more than silence */
#endif
    }
    close_all_but(result_fd, answer_fd);

    limit_set(RLIMIT_CORE, 0, 0);
    limit_set(RLIMIT_FSIZE, limits->result_bytes, limits->result_bytes);
    limit_set(RLIMIT_CPU, limits->cpu_seconds, (uint64_t)limits->cpu_seconds + 2);
    if (!SANITIZED) {
        uint64_t most = address_space_bytes() + limits->memory_bytes;
        limit_set(RLIMIT_AS, most, most);
    }
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (!filter_install(result_fd, answer_fd, log_fd)) {
        if (unshare(CLONE_NEWNET) != 0) (void)unshare(CLONE_NEWUSER | CLONE_NEWNET);
        limit_set(RLIMIT_NPROC, 0, 0);
        limit_set(RLIMIT_NOFILE, 0, 0);
    }
}

static int write_all(int fd, const void *data, size_t bytes)
{
    const char *at = data;
    while (bytes > 0) {
        ssize_t wrote = write(fd, at, bytes);
        if (wrote < 0 && errno == EINTR) continue;
        if (wrote <= 0) return 0;
        at += wrote, bytes -= (size_t)wrote;
    }
    return 1;
}

static void child(cy_confined_work work, const void *data, size_t bytes,
                  const cy_confined_limits *limits, int result_fd, int answer_fd)
{
    struct {
        struct answer_head head;
        char sentence[1024];
    } answer = {{0, 0}, ""};
    void *result = NULL;
    size_t result_bytes = 0;
    confine(limits, result_fd, answer_fd);
    answer.head.code = work(data, bytes, &result, &result_bytes, answer.sentence,
                            sizeof answer.sentence);
    if (answer.head.code == 0 && !write_all(result_fd, result, result_bytes)) _exit(1);
    answer.sentence[sizeof answer.sentence - 1] = 0;
    answer.head.sentence_bytes = (uint32_t)strlen(answer.sentence);
    if (!write_all(answer_fd, &answer, sizeof answer.head + answer.head.sentence_bytes))
        _exit(1);
    _exit(0);
}

/* ---- in the parent ---------------------------------------------------------------------------- */

static double seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* What the child wrote, up to `capacity` bytes, until it closes the pipe; -1 past the deadline. */
static ssize_t read_answer(int fd, void *buffer, size_t capacity, double deadline)
{
    size_t bytes = 0;
    for (;;) {
        struct pollfd wait = {fd, POLLIN, 0};
        double left = deadline - seconds_now();
        if (left <= 0) return -1;
        int ready = poll(&wait, 1, left > 1000 ? 1000000 : (int)(left * 1000) + 1);
        if (ready <= 0) continue;
        char spill[256]; /* more than was agreed is read and forgotten */
        ssize_t got = bytes < capacity
                          ? read(fd, (char *)buffer + bytes, capacity - bytes)
                          : read(fd, spill, sizeof spill);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return (ssize_t)bytes;
        if (bytes < capacity) bytes += (size_t)got;
    }
}

static cy_confined_end broken_signal(int number, const cy_confined_limits *limits,
                                     cy_confined_answer *answer)
{
    char *sentence = answer->sentence;
    size_t bytes = sizeof answer->sentence;
    if (number == SIGXCPU)
        snprintf(sentence, bytes,
                 "reading it took more than the %u seconds of processor time allowed",
                 limits->cpu_seconds);
    else if (number == SIGXFSZ)
        snprintf(sentence, bytes, "reading it gave more than the %llu bytes allowed",
                 (unsigned long long)limits->result_bytes);
    else
        snprintf(sentence, bytes,
                 "reading it crashed (%s): the file is damaged, or made to do harm",
                 strsignal(number));
    return CY_CONFINED_BROKEN;
}

static cy_confined_end broken(cy_confined_answer *answer, const char *what, int error)
{
    snprintf(answer->sentence, sizeof answer->sentence, "%s: %s", what, strerror(error));
    return CY_CONFINED_BROKEN;
}

static cy_confined_end take_result(int result_fd, const cy_confined_limits *limits,
                                   cy_confined_answer *answer)
{
    struct stat info;
    if (fstat(result_fd, &info) != 0) return broken(answer, "the result is lost", errno);
    if (info.st_size <= 0 || (uint64_t)info.st_size > limits->result_bytes) {
        snprintf(answer->sentence, sizeof answer->sentence,
                 "reading it gave %lld bytes, between 1 and %llu are allowed",
                 (long long)info.st_size, (unsigned long long)limits->result_bytes);
        return CY_CONFINED_BROKEN;
    }
    /* The child, the only other holder, is dead: what is mapped here cannot change. */
    void *result = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, result_fd, 0);
    if (result == MAP_FAILED)
        return broken(answer, "the result could not be mapped", errno);
    answer->result = result;
    answer->result_bytes = (size_t)info.st_size;
    return CY_CONFINED_DONE;
}

static cy_confined_end judge(pid_t pid, int result_fd, int answer_fd,
                             const cy_confined_limits *limits, cy_confined_answer *answer)
{
    struct {
        struct answer_head head;
        char sentence[sizeof answer->sentence - 1];
    } got;
    memset(&got, 0, sizeof got);
    ssize_t bytes =
        read_answer(answer_fd, &got, sizeof got, seconds_now() + limits->wall_seconds);
    if (bytes < 0) kill(pid, SIGKILL);
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (bytes < 0) {
        snprintf(answer->sentence, sizeof answer->sentence,
                 "reading it took more than the %u seconds allowed",
                 limits->wall_seconds);
        return CY_CONFINED_BROKEN;
    }
    if (WIFSIGNALED(status)) return broken_signal(WTERMSIG(status), limits, answer);
    if (WEXITSTATUS(status) != 0 || (size_t)bytes < sizeof got.head ||
        got.head.sentence_bytes != (size_t)bytes - sizeof got.head || got.head.code < 0) {
        snprintf(answer->sentence, sizeof answer->sentence,
                 "reading it ended without an answer (exit code %d)",
                 WEXITSTATUS(status));
        return CY_CONFINED_BROKEN;
    }
    if (got.head.code == 0) return take_result(result_fd, limits, answer);
    answer->code = got.head.code;
    memcpy(answer->sentence, got.sentence, got.head.sentence_bytes);
    answer->sentence[got.head.sentence_bytes] = 0;
    return CY_CONFINED_REFUSED;
}

cy_confined_end cy_confined_run(cy_confined_work work, const void *data, size_t bytes,
                                const cy_confined_limits *limits,
                                cy_confined_answer *answer)
{
    int ends[2];
    memset(answer, 0, sizeof *answer);
    int result_fd = memfd_create("carry-import", MFD_CLOEXEC);
    if (result_fd < 0) return broken(answer, "no memory for its reading", errno);
    if (pipe2(ends, O_CLOEXEC) != 0) {
        int error = errno;
        close(result_fd);
        return broken(answer, "no pipe for its reading", error);
    }
    fflush(NULL);
    cy_confined_end end;
    pid_t pid = fork();
    if (pid == 0) child(work, data, bytes, limits, result_fd, ends[1]);
    int error = errno;
    close(ends[1]);
    if (pid < 0) end = broken(answer, "no process for its reading", error);
    else end = judge(pid, result_fd, ends[0], limits, answer);
    close(ends[0]);
    close(result_fd);
    return end;
}

void cy_confined_release(cy_confined_answer *answer)
{
    if (answer->result != NULL) munmap(answer->result, answer->result_bytes);
    answer->result = NULL;
    answer->result_bytes = 0;
}

const char *cy_confined_means(void)
{
#ifdef FILTER_ARCH
    /* With a null program a kernel that knows filters answers EFAULT, another one EINVAL. */
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, NULL) != 0 && errno == EFAULT)
        return SANITIZED ? "seccomp filter, limit of time"
                         : "seccomp filter, limits of memory and time";
#endif
    return SANITIZED ? "limit of time" : "limits of memory and time";
}

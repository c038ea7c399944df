/* Written beside and renamed: output files that are either whole or not there. */
#include "out_file.h"

#include "report.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Temporary files that a signal handler must remove. An output has at most one; a model has few
 * outputs, and beyond this many the file is refused rather than left behind. */
#define SIGNAL_SLOTS 512
#define MOST_LINKS   40 /* one behind the other: as many as the kernel follows */
static const char *volatile signal_paths[SIGNAL_SLOTS];
static const char *volatile signal_folder; /* made by us: goes when nothing stays in it */

static void remove_all(void)
{
    for (size_t i = 0; i < SIGNAL_SLOTS; i++)
        if (signal_paths[i] != NULL) unlink(signal_paths[i]);
    if (signal_folder != NULL) rmdir(signal_folder);
}

static void on_signal(int number)
{
    remove_all();
    signal(number, SIG_DFL); /* the caller's shell learns how we ended */
    raise(number);
}

/* A mapped model file that somebody cuts short: no reader can prevent that. */
static void on_bus_error(int number)
{
    static const char sentence[] = "carry: a model file shrank while it was being read\n";
    (void)number;
    remove_all();
    if (write(STDERR_FILENO, sentence, sizeof sentence - 1) < 0) _exit(CY_EXIT_FAILED);
    _exit(CY_EXIT_FAILED);
}

void cy_out_signals_install(void)
{
    static const int ending[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGXCPU, SIGXFSZ};
    struct sigaction action = {.sa_handler = on_signal}, before;
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof ending / sizeof ending[0]; i++) {
        if (sigaction(ending[i], NULL, &before) == 0 && before.sa_handler == SIG_IGN)
            continue;
        sigaction(ending[i], &action, NULL); /* nohup stays nohup */
    }
    action.sa_handler = on_bus_error;
    sigaction(SIGBUS, &action, NULL);
    signal(SIGPIPE, SIG_IGN); /* a closed pipe is an error of write, with a sentence */
}

static int fail_errno(const char *path, const char *what)
{
    return cy_report(CY_EXIT_FAILED, "%s %s: %s", path, what, strerror(errno));
}

/* Descriptor number of /dev/stdout, /dev/fd/N and /proc/self/fd/N; -1 for other names. Opened by
 * name, a redirected file would start again at its beginning. */
static int own_descriptor(const char *path)
{
    static const char *const folders[] = {"/dev/fd/", "/proc/self/fd/"};
    if (strcmp(path, "/dev/stdout") == 0) return STDOUT_FILENO;
    if (strcmp(path, "/dev/stderr") == 0) return STDERR_FILENO;
    for (size_t i = 0; i < 2; i++) {
        size_t length = strlen(folders[i]);
        if (strncmp(path, folders[i], length) != 0) continue;
        char *end;
        long number = strtol(path + length, &end, 10);
        if (path[length] >= '0' && path[length] <= '9' && *end == 0 && number < 65536)
            return (int)number;
    }
    return -1;
}

/* The new file gets what open(2) would have given it, or the mode of the file it replaces. */
static mode_t final_mode(const char *target)
{
    struct stat info;
    if (stat(target, &info) == 0) return info.st_mode & 0777;
    mode_t mask = umask(0);
    umask(mask);
    return 0666 & ~mask;
}

static int open_beside(cy_out_file *file)
{
    int slot = 0;
    while (slot < SIGNAL_SLOTS && signal_paths[slot] != NULL)
        slot++;
    if (slot == SIGNAL_SLOTS)
        return cy_report(CY_EXIT_FAILED, "%s: more than %d output files", file->path,
                         SIGNAL_SLOTS);

    const char *slash = strrchr(file->target, '/');
    size_t folder = slash == NULL ? 0 : (size_t)(slash - file->target) + 1;
    file->beside = malloc(folder + sizeof ".carry-XXXXXX");
    if (file->beside == NULL)
        return cy_report(CY_EXIT_FAILED, "%s: out of memory", file->path);
    memcpy(file->beside, file->target, folder);
    memcpy(file->beside + folder, ".carry-XXXXXX", sizeof ".carry-XXXXXX");

    /* No signal between the file's birth and its registration. */
    sigset_t all, before;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, &before);
    file->fd = mkostemp(file->beside, O_CLOEXEC);
    if (file->fd >= 0) signal_paths[slot] = file->beside, file->signal_slot = slot;
    sigprocmask(SIG_SETMASK, &before, NULL);
    if (file->fd < 0) {
        free(file->beside);
        file->beside = NULL;
        return fail_errno(file->path, "could not be created");
    }
    if (fchmod(file->fd, final_mode(file->target)) != 0 && errno != EPERM)
        return fail_errno(file->path, "could not be given its mode");
    return CY_EXIT_OK;
}

/* Where open(2) would make the file: behind the symbolic links, which stay, and of which the last may name what is not
 * there yet. (src/run/replace_file.c does the same for the library, which the command sees through carry.h alone.) */
static int follow_links(cy_out_file *file)
{
    char next[PATH_MAX];
    file->target = realpath(file->path, NULL);
    if (file->target != NULL) return CY_EXIT_OK;
    if (errno != ENOENT) return fail_errno(file->path, "could not be created");
    file->target = strdup(file->path);
    for (int links = 0; file->target != NULL; links++) {
        ssize_t length = readlink(file->target, next, sizeof next - 1);
        if (length < 0) return CY_EXIT_OK; /* no link: creating says what is wrong */
        errno = ELOOP;
        if (links == MOST_LINKS) return fail_errno(file->path, "could not be created");
        next[length] = 0;
        const char *slash = strrchr(file->target, '/');
        size_t folder =
            next[0] == '/' || slash == NULL ? 0 : (size_t)(slash + 1 - file->target);
        char *followed = malloc(folder + (size_t)length + 1);
        if (followed != NULL) {
            memcpy(followed, file->target, folder);
            strcpy(followed + folder, next);
        }
        free(file->target);
        file->target = followed;
    }
    return cy_report(CY_EXIT_FAILED, "%s: out of memory", file->path);
}

int cy_out_open(cy_out_file *file, const char *path)
{
    struct stat info;
    int code = CY_EXIT_OK;
    *file = (cy_out_file)CY_OUT_CLOSED;
    file->path = strdup(path);
    if (file->path == NULL) return cy_report(CY_EXIT_FAILED, "%s: out of memory", path);

    int own = own_descriptor(path);
    if (own >= 0) {
        file->in_order = 1;
        file->fd = fcntl(own, F_DUPFD_CLOEXEC, 3);
        if (file->fd < 0) code = fail_errno(path, "could not be opened");
    } else if (stat(path, &info) == 0 && S_ISDIR(info.st_mode)) {
        code = cy_report(CY_EXIT_FAILED, "%s is a folder, not a file to write", path);
    } else if (stat(path, &info) == 0 && !S_ISREG(info.st_mode)) {
        file->in_order = 1;
        file->fd = open(path, O_WRONLY | O_CLOEXEC);
        if (file->fd < 0) code = fail_errno(path, "could not be opened");
    } else {
        code = follow_links(file);
        if (code == CY_EXIT_OK) code = open_beside(file);
    }
    if (code != CY_EXIT_OK) cy_out_discard(file);
    return code;
}

int cy_out_append(cy_out_file *file, const void *data, size_t bytes)
{
    const char *at = data;
    while (bytes > 0) {
        ssize_t wrote = write(file->fd, at, bytes);
        if (wrote < 0 && errno == EINTR) continue;
        if (wrote < 0) return fail_errno(file->path, "could not be written");
        at += wrote, bytes -= (size_t)wrote;
    }
    return CY_EXIT_OK;
}

int cy_out_write_at(cy_out_file *file, const void *data, size_t bytes, uint64_t offset)
{
    const char *at = data;
    while (bytes > 0) {
        ssize_t wrote = pwrite(file->fd, at, bytes, (off_t)offset);
        if (wrote < 0 && errno == EINTR) continue;
        if (wrote < 0) return fail_errno(file->path, "could not be written");
        at += wrote, bytes -= (size_t)wrote, offset += (uint64_t)wrote;
    }
    return CY_EXIT_OK;
}

static void forget(cy_out_file *file)
{
    if (file->beside != NULL) signal_paths[file->signal_slot] = NULL;
    free(file->beside);
    free(file->target);
    free(file->path);
    *file = (cy_out_file)CY_OUT_CLOSED;
}

int cy_out_commit(cy_out_file *file)
{
    int code = CY_EXIT_OK;
    int failed = close(file->fd) != 0;
    file->fd = -1;
    if (failed) code = fail_errno(file->path, "could not be written");
    if (code == CY_EXIT_OK && file->beside != NULL &&
        rename(file->beside, file->target) != 0)
        code = fail_errno(file->path, "could not be put in place");
    if (code != CY_EXIT_OK && file->beside != NULL) unlink(file->beside);
    forget(file);
    return code;
}

void cy_out_discard(cy_out_file *file)
{
    if (file->fd >= 0) close(file->fd);
    if (file->beside != NULL) unlink(file->beside);
    forget(file);
}

int cy_out_folder_open(const char *path)
{
    struct stat info;
    int code = CY_EXIT_OK;
    char *part = strdup(path);
    if (part == NULL) return cy_report(CY_EXIT_FAILED, "%s: out of memory", path);
    for (size_t end = strlen(part); end > 1 && part[end - 1] == '/'; end--)
        part[end - 1] = 0;
    for (char *slash = strchr(part + 1, '/'); slash != NULL;
         slash = strchr(slash + 1, '/')) {
        *slash = 0;
        if (mkdir(part, 0777) != 0 && errno != EEXIST) code = CY_EXIT_FAILED;
        *slash = '/';
        if (code != CY_EXIT_OK) break;
    }
    if (code == CY_EXIT_OK && mkdir(part, 0777) == 0) signal_folder = path;
    else if (code != CY_EXIT_OK || errno != EEXIST)
        code = fail_errno(path, "could not be created");
    else if (stat(part, &info) != 0 || !S_ISDIR(info.st_mode))
        code = cy_report(CY_EXIT_FAILED, "%s is a file, not a folder", path);
    free(part);
    return code;
}

void cy_out_folder_close(void)
{
    if (signal_folder != NULL) rmdir(signal_folder);
    signal_folder = NULL;
}

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

#define LINKS_MOST 40 /* symbolic links in a chain, as Linux has it */

/* Temporary files that a signal handler must remove. An output has at most one; a model has few
 * outputs, and beyond this many the file is refused rather than left behind. */
#define SIGNAL_SLOTS 512
static const char *volatile signal_paths[SIGNAL_SLOTS];
static const char *signal_targets[SIGNAL_SLOTS]; /* what each is going to replace */

/* The folder that we made, and the lengths of those of its beginnings that are folders we made too, itself
 * included, outermost first. Of a deeper nest the rest would stay. */
#define FOLDERS_MOST 64
static char *made_folder;
static size_t made_lengths[FOLDERS_MOST];
static volatile size_t made_count;

/* What nothing has been put into goes again. */
static void remove_folders(void)
{
    while (made_count > 0) {
        made_folder[made_lengths[--made_count]] = 0;
        rmdir(made_folder);
    }
}

static void remove_all(void)
{
    for (size_t i = 0; i < SIGNAL_SLOTS; i++)
        if (signal_paths[i] != NULL) unlink(signal_paths[i]);
    remove_folders();
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
    static const int ending[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGXCPU};
    struct sigaction action = {.sa_handler = on_signal}, before;
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof ending / sizeof ending[0]; i++) {
        if (sigaction(ending[i], NULL, &before) == 0 && before.sa_handler == SIG_IGN)
            continue;
        sigaction(ending[i], &action, NULL); /* nohup stays nohup */
    }
    action.sa_handler = on_bus_error;
    sigaction(SIGBUS, &action, NULL);
    /* A closed pipe and a file beyond its limit are errors of write, with a sentence. */
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
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

/* `link` in the folder of `path`, or wherever it says; NULL and errno on failure. */
static char *beside_link(const char *path, const char *link)
{
    const char *slash = strrchr(path, '/');
    size_t folder = slash == NULL || *link == '/' ? 0 : (size_t)(slash - path) + 1;
    size_t bytes = folder + strlen(link) + 1;
    char *joined = malloc(bytes);
    if (joined != NULL) snprintf(joined, bytes, "%.*s%s", (int)folder, path, link);
    return joined;
}

/* One name for one file, which need not be there yet: through symbolic links to what is behind them, so that
 * the links stay; its folder without links and dots. NULL and errno on failure. */
static char *resolve(const char *path)
{
    char link[PATH_MAX], *at = strdup(path);
    for (int links = 0; at != NULL; links++) {
        ssize_t length = readlink(at, link, sizeof link - 1);
        if (length < 0) break; /* no link */
        link[length] = 0;
        char *next = links < LINKS_MOST ? beside_link(at, link) : NULL;
        if (links == LINKS_MOST) errno = ELOOP;
        free(at);
        at = next;
    }
    if (at == NULL) return NULL;

    char *slash = strrchr(at, '/'), folder[PATH_MAX], *resolved = NULL;
    const char *name = slash == NULL ? at : slash + 1;
    const char *in = slash == NULL ? "." : slash == at ? "/" : at;
    if (slash != NULL) *slash = 0;
    if (realpath(in, folder) != NULL) {
        size_t bytes = strlen(folder) + strlen(name) + 2;
        resolved = malloc(bytes);
        if (resolved != NULL)
            snprintf(resolved, bytes, "%s/%s", strcmp(folder, "/") == 0 ? "" : folder,
                     name);
    }
    int error = errno;
    free(at);
    errno = error;
    return resolved;
}

static int open_beside(cy_out_file *file)
{
    int slot = 0;
    for (size_t i = 0; i < SIGNAL_SLOTS; i++)
        if (signal_paths[i] != NULL && strcmp(signal_targets[i], file->target) == 0)
            return cy_report(CY_EXIT_FAILED, "%s is named for two outputs", file->path);
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
    if (file->fd >= 0) {
        signal_paths[slot] = file->beside;
        signal_targets[slot] = file->target;
        file->signal_slot = slot;
    }
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

int cy_out_open(cy_out_file *file, const char *path)
{
    struct stat info;
    int code = CY_EXIT_OK;
    *file = (cy_out_file)CY_OUT_CLOSED;
    file->path = strdup(path);
    if (file->path == NULL) return cy_report(CY_EXIT_FAILED, "%s: out of memory", path);

    int own = own_descriptor(path);
    int missing = stat(path, &info) == 0 ? 0 : errno;
    if (own >= 0) {
        /* What closes on exec was not given to us: we opened it. */
        int ours = fcntl(own, F_GETFD) & FD_CLOEXEC;
        file->in_order = 1;
        if (!ours) file->fd = fcntl(own, F_DUPFD_CLOEXEC, 3);
        else errno = EBADF;
        if (file->fd < 0) code = fail_errno(path, "could not be opened");
    } else if (missing != 0 && missing != ENOENT) {
        errno = missing; /* a name too long is said before the work, not after it */
        code = fail_errno(path, "could not be created");
    } else if (missing == 0 && S_ISDIR(info.st_mode)) {
        code = cy_report(CY_EXIT_FAILED, "%s is a folder, not a file to write", path);
    } else if (missing == 0 && !S_ISREG(info.st_mode)) {
        file->in_order = 1;
        file->fd = open(path, O_WRONLY | O_CLOEXEC);
        if (file->fd < 0) code = fail_errno(path, "could not be opened");
    } else {
        file->target = resolve(path);
        code = file->target == NULL ? fail_errno(path, "could not be created")
                                    : open_beside(file);
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

/* mkdir for the beginning of made_folder that is `length` long, remembered if it was not there. */
static int make_folder(size_t length)
{
    char cut = made_folder[length];
    made_folder[length] = 0;
    int failed = mkdir(made_folder, 0777) != 0;
    made_folder[length] = cut;
    if (failed) return errno == EEXIST;
    if (made_count < FOLDERS_MOST) made_lengths[made_count++] = length;
    return 1;
}

int cy_out_folder_open(const char *path)
{
    struct stat info;
    cy_out_folder_close();
    made_folder = strdup(path);
    if (made_folder == NULL) return cy_report(CY_EXIT_FAILED, "%s: out of memory", path);
    size_t end = strlen(path);
    while (end > 1 && made_folder[end - 1] == '/')
        made_folder[--end] = 0;
    int made = 1;
    for (size_t at = 1; at < end && made; at++)
        if (made_folder[at] == '/') made = make_folder(at);
    if (!made || !make_folder(end)) return fail_errno(path, "could not be created");
    if (stat(made_folder, &info) != 0 || !S_ISDIR(info.st_mode))
        return cy_report(CY_EXIT_FAILED, "%s is a file, not a folder", path);
    return CY_EXIT_OK;
}

void cy_out_folder_close(void)
{
    remove_folders();
    free(made_folder);
    made_folder = NULL;
}

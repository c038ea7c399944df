#define _GNU_SOURCE /* getrandom */
#include "run/replace_file.h"

#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define SUFFIX_BYTES sizeof ".tmp-XXXXXX"
#define TRIES        100 /* of names that are taken */
#define LINKS_MOST   40  /* as Linux has it */

static carry_status failed(const cy_replacement *r, const char *what)
{
    return cy_fail(CARRY_E_FILE, "%s %s: %s", r->path, what, strerror(errno));
}

/* What is behind a chain of symbolic links, the last of which may lead to nothing yet; NULL and errno. */
static char *follow_links(const char *path)
{
    char *at = strdup(path), to[PATH_MAX];
    for (int links = 0; at; links++) {
        ssize_t length = readlink(at, to, sizeof to - 1);
        if (length < 0) return at; /* no link */
        to[length] = 0;
        const char *slash = strrchr(at, '/');
        size_t folder = !slash || to[0] == '/' ? 0 : (size_t)(slash - at) + 1;
        size_t bytes = folder + (size_t)length + 1;
        char *next = links < LINKS_MOST ? malloc(bytes) : NULL;
        if (next) snprintf(next, bytes, "%.*s%s", (int)folder, at, to);
        else if (links == LINKS_MOST) errno = ELOOP;
        free(at);
        at = next;
    }
    return NULL;
}

static carry_status open_folder(cy_replacement *r)
{
    char *slash = strrchr(r->target, '/');
    if (!slash) r->folder = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    else {
        char after = slash[1];
        slash[1] = 0; /* "/" stays "/" */
        r->folder = open(r->target, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        slash[1] = after;
    }
    return r->folder >= 0 ? CARRY_OK : failed(r, "cannot be written: its folder");
}

/* mkstemp would give the mode 0600, and the umask can only be asked for by changing it, for all threads. */
static carry_status open_beside(cy_replacement *r, mode_t mode)
{
    static const char digits[] = "0123456789abcdefghijklmnopqrstuvwxyz";
    size_t bytes = strlen(r->target) + SUFFIX_BYTES;
    r->beside = cy_alloc(bytes);
    CY_CHECK(r->beside, CARRY_E_MEMORY, "out of memory: a name of %zu bytes", bytes);
    for (int tries = 0; r->file < 0; tries++) {
        uint32_t number;
        char suffix[7] = {0};
        if (getrandom(&number, sizeof number, 0) != sizeof number)
            return failed(r, "cannot be written: no random name");
        for (int i = 0; i < 6; i++, number /= 36)
            suffix[i] = digits[number % 36];
        snprintf(r->beside, bytes, "%s.tmp-%s", r->target, suffix);
        r->file = open(r->beside, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
        if (r->file < 0 && (errno != EEXIST || tries == TRIES)) {
            r->beside[0] = 0; /* not ours */
            return failed(r, "cannot be written: a file beside it");
        }
    }
    return CARRY_OK;
}

static carry_status begin(cy_replacement *r)
{
    struct stat old;
    size_t length = strlen(r->path);
    CY_CHECK(length > 0, CARRY_E_FILE, "the path of the file to write is empty");
    CY_CHECK(r->path[length - 1] != '/', CARRY_E_FILE,
             "%s is a folder, not a file to write", r->path);
    r->target = realpath(r->path, NULL);
    if (!r->target) r->target = follow_links(r->path); /* not there yet */
    CY_CHECK(r->target || errno != ENOMEM, CARRY_E_MEMORY, "out of memory: the name %s",
             r->path);
    if (!r->target) return failed(r, "cannot be written");
    bool is_there = stat(r->target, &old) == 0;
    CY_CHECK(!is_there || !S_ISDIR(old.st_mode), CARRY_E_FILE,
             "%s is a folder, not a file to write", r->path);
    CY_CHECK(!is_there || S_ISREG(old.st_mode), CARRY_E_FILE,
             "%s is not a regular file, and cannot be replaced", r->path);
    CY_TRY(open_folder(r));
    CY_TRY(open_beside(r, is_there ? 0600 : 0666));
    if (is_there && fchmod(r->file, old.st_mode & 0777) != 0 && errno != EPERM)
        return failed(r, "cannot be written: the mode of the file beside it");
    return CARRY_OK;
}

carry_status cy_replace_begin(cy_replacement *r, const char *path)
{
    *r = (cy_replacement){.path = path, .file = -1, .folder = -1};
    carry_status status = begin(r);
    if (status != CARRY_OK) cy_replace_discard(r);
    return status;
}

carry_status cy_replace_write(cy_replacement *r, const void *data, size_t bytes,
                              uint64_t offset)
{
    const char *at = data;
    while (bytes > 0) {
        ssize_t wrote = pwrite(r->file, at, bytes, (off_t)offset);
        if (wrote < 0 && errno == EINTR) continue;
        if (wrote < 0) return failed(r, "could not be written");
        at += wrote, bytes -= (size_t)wrote, offset += (uint64_t)wrote;
    }
    return CARRY_OK;
}

static carry_status commit(cy_replacement *r)
{
    if (fsync(r->file) != 0) return failed(r, "could not be written");
    int file = r->file;
    r->file = -1;
    if (close(file) != 0) return failed(r, "could not be written");
    if (rename(r->beside, r->target) != 0) return failed(r, "could not be put in place");
    cy_free(r->beside); /* it has that name no more */
    r->beside = NULL;
    /* Not every file system can do this for a folder; those that can then keep the new name. */
    if (fsync(r->folder) != 0 && errno != EINVAL)
        return failed(r, "was replaced, but a crash of the machine may undo it");
    return CARRY_OK;
}

carry_status cy_replace_commit(cy_replacement *r)
{
    carry_status status = commit(r);
    cy_replace_discard(r);
    return status;
}

void cy_replace_discard(cy_replacement *r)
{
    if (r->file >= 0) close(r->file);
    if (r->folder >= 0) close(r->folder);
    if (r->beside && r->beside[0]) unlink(r->beside);
    cy_free(r->beside);
    free(r->target);
    *r = (cy_replacement){.file = -1, .folder = -1};
}

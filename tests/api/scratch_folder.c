#define _GNU_SOURCE /* mkdtemp, dirent */
#include "scratch_folder.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MUST(condition)                                                     \
    do {                                                                    \
        if (!(condition)) {                                                 \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
            abort();                                                        \
        }                                                                   \
    } while (0)

static char folder[PATH_BYTES / 2];

void folder_open(void)
{
    const char *parent = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/carry-test-XXXXXX", parent ? parent : "/tmp");
    MUST(mkdtemp(folder));
}

void folder_path(char *path, const char *name)
{
    int length = snprintf(path, PATH_BYTES, "%s/%s", folder, name);
    MUST(length > 0 && length < PATH_BYTES);
}

static size_t each(const char *beginning, int remove_it)
{
    DIR *entries = opendir(folder);
    MUST(entries);
    size_t count = 0;
    for (struct dirent *entry; (entry = readdir(entries));) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        if (strncmp(entry->d_name, beginning, strlen(beginning)) != 0) continue;
        count++;
        if (remove_it) MUST(unlinkat(dirfd(entries), entry->d_name, 0) == 0);
    }
    closedir(entries);
    return count;
}

size_t folder_count(const char *beginning)
{
    return each(beginning, 0);
}

void folder_remove(const char *beginning)
{
    each(beginning, 1);
}

void folder_close(void)
{
    folder_remove("");
    MUST(rmdir(folder) == 0);
}

void *file_read(const char *path, size_t *bytes)
{
    FILE *file = fopen(path, "rb");
    if (!file) return NULL;
    MUST(fseek(file, 0, SEEK_END) == 0);
    *bytes = (size_t)ftell(file);
    rewind(file);
    void *data = malloc(*bytes + 1);
    MUST(data && fread(data, 1, *bytes, file) == *bytes);
    fclose(file);
    return data;
}

void file_write(const char *path, const void *data, size_t bytes)
{
    FILE *file = fopen(path, "wb");
    MUST(file && fwrite(data, 1, bytes, file) == bytes && fclose(file) == 0);
}

/* MODEL on a command line: carry's own file as it is, a foreign one imported in a confined child. */
#include "model_source.h"

#include "report.h"

#include <carry/carry_import.h>
#include <jansson.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* An importer holds a file's bytes, an unpacked copy, the weights and the result at once: well below
 * eight times the file; the floor is for small files of compressed zeros. */
#define IMPORT_MEMORY_FLOOR  ((uint64_t)1 << 30)
#define IMPORT_MEMORY_FACTOR 8
/* float16 weights become float32, compressed ones several times larger. */
#define IMPORT_RESULT_FLOOR  ((uint64_t)256 << 20)
#define IMPORT_RESULT_FACTOR 4
/* Importing runs at 100 MB/s and more, and a small file takes 10 ms. */
#define IMPORT_CPU_FLOOR_SECONDS 5
#define IMPORT_BYTES_PER_SECOND  ((uint64_t)10 << 20)
#define IMPORT_WALL_FACTOR       10 /* a busy machine, not a busy importer */

static int read_stream(int fd, const char *path, void **data, size_t *bytes)
{
    size_t capacity = 0, length = 0;
    char *buffer = NULL;
    for (;;) {
        if (length == capacity) {
            size_t wider = capacity == 0 ? (size_t)1 << 16 : capacity * 2;
            char *moved = wider < capacity ? NULL : realloc(buffer, wider);
            if (moved == NULL) {
                free(buffer);
                return cy_report(CY_EXIT_FAILED, "%s: out of memory after %zu bytes",
                                 path, length);
            }
            buffer = moved, capacity = wider;
        }
        ssize_t got = read(fd, buffer + length, capacity - length);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) {
            free(buffer);
            return cy_report(CY_EXIT_FAILED, "%s could not be read: %s", path,
                             strerror(errno));
        }
        if (got == 0) break;
        length += (size_t)got;
    }
    *data = buffer;
    *bytes = length;
    return CY_EXIT_OK;
}

int cy_file_read(const char *path, void **data, size_t *bytes, int *mapped)
{
    struct stat info;
    int code = CY_EXIT_OK;
    *data = NULL, *bytes = 0, *mapped = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &info) != 0)
        code = cy_report(CY_EXIT_FAILED, "%s could not be opened: %s", path,
                         strerror(errno));
    else if (S_ISDIR(info.st_mode))
        code = cy_report(CY_EXIT_FAILED, "%s is a folder, not a file", path);
    else if (S_ISREG(info.st_mode) && info.st_size > 0) {
        void *map = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (map == MAP_FAILED)
            code = cy_report(CY_EXIT_FAILED, "%s could not be mapped: %s", path,
                             strerror(errno));
        else *data = map, *bytes = (size_t)info.st_size, *mapped = 1;
    } else {
        code = read_stream(fd, path, data, bytes);
    }
    if (fd >= 0) close(fd);
    return code;
}

void cy_file_release(void *data, size_t bytes, int mapped)
{
    if (data != NULL && mapped) munmap(data, bytes);
    else free(data);
}

static int import_work(const void *data, size_t bytes, void **result,
                       size_t *result_bytes, char *sentence, size_t sentence_bytes)
{
    return carry_import_bytes(data, bytes, result, result_bytes, sentence,
                              sentence_bytes);
}

static int import_confined(cy_model_source *source, const char *path)
{
    uint64_t size = source->file_bytes;
    cy_confined_limits limits = {
        .memory_bytes = IMPORT_MEMORY_FLOOR + IMPORT_MEMORY_FACTOR * size,
        .result_bytes = IMPORT_RESULT_FLOOR + IMPORT_RESULT_FACTOR * size,
        .cpu_seconds =
            (uint32_t)(IMPORT_CPU_FLOOR_SECONDS + size / IMPORT_BYTES_PER_SECOND),
    };
    limits.wall_seconds = limits.cpu_seconds * IMPORT_WALL_FACTOR;
    /* jansson seeds its hash tables from a file the child may not open. */
    json_object_seed(0);
    cy_confined_answer *answer = &source->answer;
    switch (
        cy_confined_run(import_work, source->file, source->file_bytes, &limits, answer)) {
    case CY_CONFINED_DONE:
        break;
    case CY_CONFINED_REFUSED:
        if (answer->code == CARRY_E_MEMORY)
            return cy_report(
                CY_EXIT_FAILED,
                "%s: reading it took more than the %llu MiB of memory allowed", path,
                (unsigned long long)(limits.memory_bytes >> 20));
        if (answer->sentence[0] == 0)
            return cy_report(CY_EXIT_FAILED, "%s: %s", path,
                             carry_status_text((carry_status)answer->code));
        return cy_report(CY_EXIT_FAILED, "%s: %s", path, answer->sentence);
    case CY_CONFINED_BROKEN:
        return cy_report(CY_EXIT_FAILED, "%s: %s", path, answer->sentence);
    }
    source->data = answer->result;
    source->bytes = answer->result_bytes;
    return CY_EXIT_OK;
}

/* "carry's own, keras, keras-h5" */
static const char *readable_formats(char *text, size_t bytes)
{
    size_t length = (size_t)snprintf(text, bytes, "carry's own");
    for (size_t i = 0; carry_importer_name(i) != NULL && length < bytes; i++)
        length += (size_t)snprintf(text + length, bytes - length, ", %s",
                                   carry_importer_name(i));
    return text;
}

int cy_model_source_open(cy_model_source *source, const char *path)
{
    memset(source, 0, sizeof *source);
    int code = cy_file_read(path, &source->file, &source->file_bytes, &source->mapped);
    if (code != CY_EXIT_OK) return code;
    if (source->file_bytes == 0) return cy_report(CY_EXIT_FAILED, "%s is empty", path);

    source->format = carry_importer_probe(source->file, source->file_bytes);
    if (source->format != NULL) return import_confined(source, path);

    /* A safetensors file begins with eight bytes of length and a JSON object. */
    if (source->file_bytes < 9 || ((const char *)source->file)[8] != '{') {
        char formats[256];
        return cy_report(CY_EXIT_FAILED,
                         "%s is not a model file of a format this build reads (%s)", path,
                         readable_formats(formats, sizeof formats));
    }
    source->format = "carry";
    source->data = source->file;
    source->bytes = source->file_bytes;
    return CY_EXIT_OK;
}

void cy_model_source_close(cy_model_source *source)
{
    cy_confined_release(&source->answer);
    cy_file_release(source->file, source->file_bytes, source->mapped);
    memset(source, 0, sizeof *source);
}

int cy_model_load(const char *path, const cy_device_options *on, carry_model **model,
                  const char **format)
{
    cy_model_source source;
    carry_model_options options = cy_device_model_options(on);
    *model = NULL;
    int code = cy_model_source_open(&source, path);
    if (code == CY_EXIT_OK) {
        if (format != NULL) *format = source.format;
        carry_status status =
            carry_model_open_bytes(model, source.data, source.bytes, &options);
        if (status == CARRY_E_DEVICE)
            code = cy_report(CY_EXIT_FAILED, "%s", carry_error());
        else if (status != CARRY_OK)
            code = cy_report(CY_EXIT_FAILED, "%s: %s", path, carry_error());
        else cy_device_report_note(on, *model);
    }
    cy_model_source_close(&source);
    return code;
}

/* MODEL on a command line: carry's own file as it is, a foreign one imported in a confined child. */
#ifndef CY_CLI_MODEL_SOURCE_H
#define CY_CLI_MODEL_SOURCE_H

#include "confined.h"
#include "device_options.h"

#include <carry/carry.h>

typedef struct cy_model_source {
    const char *format; /* "carry", or the importer's name: "keras", "keras-h5" */
    const void *data;   /* carry's own format */
    size_t bytes;

    void *file; /* the file's bytes */
    size_t file_bytes;
    int mapped; /* 1: `file` is a mapping, 0: an allocation */
    cy_confined_answer answer;
} cy_model_source;

/* The model at `path` as bytes of carry's own format. CY_EXIT_OK, or CY_EXIT_FAILED after a sentence
 * that names the file. Close it in either case. */
int cy_model_source_open(cy_model_source *source, const char *path);
void cy_model_source_close(cy_model_source *source);

/* The same, opened on a device; says once if "auto" had to take the CPU. *format (may be NULL) receives the
 * file's format. */
int cy_model_load(const char *path, const cy_device_options *on, carry_model **model,
                  const char **format);

/* The bytes of any readable file, pipes included: mapped where it is a regular file and
 * *mapped says so, otherwise allocated. */
int cy_file_read(const char *path, void **data, size_t *bytes, int *mapped);
void cy_file_release(void *data, size_t bytes, int mapped);

#endif

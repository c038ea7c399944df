/* --device, --precision and --exact, the same in every command that opens a model. */
#ifndef CY_CLI_DEVICE_OPTIONS_H
#define CY_CLI_DEVICE_OPTIONS_H

#include "options.h"

#include <carry/carry.h>

typedef struct cy_device_options {
    const char *device, *precision; /* the words given; NULL: none */
    int exact;
} cy_device_options;

/* Their rows in a command's table of options. */
/* clang-format off */
#define CY_DEVICE_OPTION_ROWS(on)                                                       \
    {"device", CY_OPTION_STRING, &(on).device, "DEVICE",                                \
     "auto (default), cpu, cuda, cuda:N; see carry devices", 0, 0},                     \
    {"precision", CY_OPTION_STRING, &(on).precision, "P",                               \
     "of products: fp32 (default); on CUDA also tf32, bf16, fp16", 0, 0},               \
    {"exact", CY_OPTION_FLAG, &(on).exact, NULL,                                        \
     "a row's bits depend on no other row and no cut; always so on the CPU", 0, 0}
/* clang-format on */

/* Whether the words are ones any build of carry knows. -1 to go on, or CY_EXIT_USAGE after a sentence. */
int cy_device_options_check(const cy_device_options *on);

/* For the model. The words are checked. */
carry_model_options cy_device_model_options(const cy_device_options *on);

const char *cy_precision_name(carry_precision precision);

/* Says once, on stderr, why "auto" took the CPU: where --device auto is written out, and where a device is there
 * that cannot be used (and CUDA_VISIBLE_DEVICES does not hide it). A build without a GPU backend does not say so each
 * time. */
void cy_device_report_note(const cy_device_options *on, const carry_model *model);

/* "NVIDIA H200, compute capability 9.0", into text[bytes]; the name itself where nothing more is known. */
const char *cy_device_description(const char *name, char *text, size_t bytes);

/* max_rows of a session for calls of `rows` rows: no more than needed, the device's default at most. */
uint32_t cy_device_max_rows(const carry_model_info *info, uint64_t rows);

/* Shapes of the graphs that calls of `rows` rows and `steps` steps can run by, in a session of the max_rows
 * above. Returns how many: none on the CPU and for whole-sequence models. */
enum { CY_DEVICE_GRAPHS = 2 };
size_t cy_device_graphs(const carry_model_info *info, uint64_t rows, uint64_t steps,
                        carry_graph_shape shapes[CY_DEVICE_GRAPHS]);

#endif

/* --device, --precision and --exact, the same in every command that opens a model. */
#include "device_options.h"

#include "report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What a session's default is, so that its workspace is no larger for our asking. */
#define CPU_MAX_ROWS  64
#define CUDA_MAX_ROWS 1024

/* A graph's steps are kernels one after the other: more of them save no launch worth the while, and a chunk
 * of so many rows and steps is what a session has room for anyway. */
#define GRAPH_STEPS     256
#define GRAPH_ROW_STEPS 4096

static const char *const precisions[] = {[CARRY_COMPUTE_FP32] = "fp32",
                                         [CARRY_COMPUTE_TF32] = "tf32",
                                         [CARRY_COMPUTE_BF16] = "bf16",
                                         [CARRY_COMPUTE_FP16] = "fp16"};
enum { PRECISIONS = sizeof precisions / sizeof precisions[0] };

const char *cy_precision_name(carry_precision precision)
{
    return (size_t)precision < PRECISIONS ? precisions[precision] : "unknown";
}

static int unknown_word(const char *what, const char *word, const char *near,
                        const char *all)
{
    if (near != NULL)
        return cy_report(CY_EXIT_USAGE, "unknown %s %s; did you mean %s? (one of %s)",
                         what, word, near, all);
    return cy_report(CY_EXIT_USAGE, "unknown %s %s; it is one of %s", what, word, all);
}

static int check_device(const char *word)
{
    static const char *const words[] = {"auto", "cpu", "cuda", "gpu"};
    const char *digits = word + strlen("cuda:");
    for (size_t i = 0; i < 3; i++)
        if (strcmp(word, words[i]) == 0) return -1;
    if (strncmp(word, "cuda:", strlen("cuda:")) == 0 && *digits != 0 &&
        strspn(digits, "0123456789") == strlen(digits))
        return -1;
    const char *near = cy_nearest(word, words, 4);
    if (near == words[3]) near = words[2];
    return unknown_word("device", word, near, "auto, cpu, cuda, cuda:N");
}

static int check_precision(const char *word)
{
    for (size_t i = 0; i < PRECISIONS; i++)
        if (strcmp(word, precisions[i]) == 0) return -1;
    return unknown_word("precision", word, cy_nearest(word, precisions, PRECISIONS),
                        "fp32, tf32, bf16, fp16");
}

int cy_device_options_check(const cy_device_options *on)
{
    int code = on->device == NULL ? -1 : check_device(on->device);
    return code >= 0 || on->precision == NULL ? code : check_precision(on->precision);
}

carry_model_options cy_device_model_options(const cy_device_options *on)
{
    carry_model_options options = {.size = sizeof options, .device = on->device};
    for (size_t i = 0; on->precision != NULL && i < PRECISIONS; i++)
        if (strcmp(on->precision, precisions[i]) == 0)
            options.precision = (carry_precision)i;
    return options;
}

/* Somebody who hides the GPUs knows that they are not used. */
static int some_device_is_unusable(void)
{
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    if (visible != NULL && *visible == 0) return 0;
    carry_device_info device = {.size = sizeof device};
    for (size_t i = 0; carry_device_get_info(i, &device) == CARRY_OK; i++)
        if (!device.usable) return 1;
    return 0;
}

void cy_device_report_note(const cy_device_options *on, const carry_model *model)
{
    carry_model_info info = {.size = sizeof info};
    if (carry_model_get_info(model, &info) != CARRY_OK || info.device_note == NULL)
        return;
    if (on->device != NULL || some_device_is_unusable())
        cy_report(CY_EXIT_OK, "running on the CPU: %s", info.device_note);
}

const char *cy_device_description(const char *name, char *text, size_t bytes)
{
    carry_device_info device = {.size = sizeof device};
    snprintf(text, bytes, "%s", name);
    for (size_t i = 0; carry_device_get_info(i, &device) == CARRY_OK; i++)
        if (strcmp(device.name, name) == 0)
            snprintf(text, bytes, "%s", device.description);
    return text;
}

static int is_cuda(const carry_model_info *info)
{
    return strncmp(info->device, "cuda", strlen("cuda")) == 0;
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

uint32_t cy_device_max_rows(const carry_model_info *info, uint64_t rows)
{
    return (uint32_t)least(rows, is_cuda(info) ? CUDA_MAX_ROWS : CPU_MAX_ROWS);
}

size_t cy_device_graphs(const carry_model_info *info, uint64_t rows, uint64_t steps,
                        carry_graph_shape shapes[CY_DEVICE_GRAPHS])
{
    if (!is_cuda(info) || info->whole_sequence) return 0;
    rows = cy_device_max_rows(info, rows);
    uint64_t most = least(GRAPH_STEPS, GRAPH_ROW_STEPS / rows);
    uint64_t chunk = least(steps, most > 0 ? most : 1), rest = steps % chunk;
    shapes[0] = (carry_graph_shape){(uint32_t)rows, (uint32_t)chunk};
    shapes[1] = (carry_graph_shape){(uint32_t)rows, (uint32_t)rest};
    return rest == 0 ? 1 : 2;
}

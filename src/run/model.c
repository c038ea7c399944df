#define _POSIX_C_SOURCE 200809L
#include "run/model.h"

#include "base/mem.h"
#include "base/sized.h"
#include "graph/graph_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

void cy_model_hold(carry_model *model)
{
    atomic_fetch_add_explicit(&model->users, 1, memory_order_relaxed);
}

void cy_model_release(carry_model *model)
{
    if (atomic_fetch_sub_explicit(&model->users, 1, memory_order_acq_rel) != 1) return;
    if (model->device_model) model->backend->model_close(model->device_model);
    cy_graph_close(&model->graph);
    cy_free(model);
}

/* Files of other frameworks that people will try first: "not a safetensors file" would not help them. */
static carry_status refuse_foreign(const void *data, size_t bytes)
{
    static const struct {
        const char *magic, *what;
    } known[] = {{"PK\003\004", "a zip archive, as Keras 3 writes (.keras)"},
                 {"\211HDF\r\n\032\n", "an HDF5 file, as Keras writes (.h5)"}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        size_t length = strlen(known[i].magic);
        CY_CHECK(
            bytes < length || memcmp(data, known[i].magic, length) != 0,
            CARRY_E_UNSUPPORTED,
            "this is %s; the runtime opens carry's own files: convert it with `carry "
            "convert` or libcarry_import",
            known[i].what);
    }
    return CARRY_OK;
}

static carry_status choose_device(carry_model *model, const char *word)
{
    cy_device device;
    CY_TRY(cy_device_find(word, &device));
    model->backend = device.backend;
    model->device_index = device.index;
    carry_device_info info = {0};
    device.backend->device_info(device.index, &info);
    CY_CHECK(info.usable, CARRY_E_DEVICE, "device '%s': %s", info.name, info.trouble);
    snprintf(model->device, sizeof model->device, "%s", info.name);
    snprintf(model->note, sizeof model->note, "%s", device.note ? device.note : "");
    return CARRY_OK;
}

static carry_status open_model(carry_model *model, const void *data, size_t bytes,
                               const carry_model_options *options)
{
    CY_TRY(refuse_foreign(data, bytes));
    CY_CHECK(options->precision >= CARRY_COMPUTE_FP32 &&
                 options->precision <= CARRY_COMPUTE_FP16,
             CARRY_E_ARGUMENT, "carry_model_open: precision %d is not known",
             (int)options->precision);
    CY_TRY(choose_device(model, options->device));
    model->precision = options->precision;
    CY_TRY(cy_graph_read(&model->graph, data, bytes));
    CY_TRY(model->backend->model_open(model->graph, model->device_index,
                                      options->precision, &model->device_model,
                                      &model->device_bytes));
    /* Packed: nobody may follow a pointer into the caller's bytes from here on. */
    for (uint32_t i = 0; i < model->graph->node_count; i++) {
        cy_node *node = &model->graph->nodes[i];
        model->weight_count += node->weight_count;
        for (uint32_t w = 0; w < node->weight_count; w++)
            node->weights[w].data = NULL;
    }
    return CARRY_OK;
}

carry_status carry_model_open_bytes(carry_model **model, const void *data, size_t bytes,
                                    const carry_model_options *options)
{
    CY_CHECK(model, CARRY_E_ARGUMENT, "carry_model_open: model is NULL");
    *model = NULL;
    CY_CHECK(data, CARRY_E_ARGUMENT, "carry_model_open_bytes: data is NULL");
    carry_model_options known;
    CY_TRY(cy_sized_read(&known, sizeof known, options, "carry_model_options"));
    carry_model *fresh = cy_alloc(sizeof *fresh);
    CY_CHECK(fresh, CARRY_E_MEMORY, "out of memory: %zu bytes for a model",
             sizeof *fresh);
    atomic_init(&fresh->users, 1);
    carry_status status = open_model(fresh, data, bytes, &known);
    if (status != CARRY_OK) {
        cy_model_release(fresh);
        return status;
    }
    *model = fresh;
    return CARRY_OK;
}

static carry_status open_mapped(carry_model **model, const char *path, int file,
                                const carry_model_options *options)
{
    struct stat facts;
    CY_CHECK(fstat(file, &facts) == 0, CARRY_E_FILE, "%s: %s", path, strerror(errno));
    CY_CHECK(S_ISREG(facts.st_mode), CARRY_E_FILE, "%s is not a regular file", path);
    CY_CHECK(facts.st_size > 0, CARRY_E_FORMAT, "%s is empty", path);
    size_t bytes = (size_t)facts.st_size;
    void *data = mmap(NULL, bytes, PROT_READ, MAP_PRIVATE, file, 0);
    CY_CHECK(data != MAP_FAILED, CARRY_E_FILE, "%s cannot be mapped: %s", path,
             strerror(errno));
    carry_status status = carry_model_open_bytes(model, data, bytes, options);
    munmap(data, bytes);
    if (status != CARRY_OK) return cy_fail(status, "%s: %s", path, cy_error());
    return CARRY_OK;
}

carry_status carry_model_open(carry_model **model, const char *path,
                              const carry_model_options *options)
{
    CY_CHECK(model, CARRY_E_ARGUMENT, "carry_model_open: model is NULL");
    *model = NULL;
    CY_CHECK(path, CARRY_E_ARGUMENT, "carry_model_open: path is NULL");
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    CY_CHECK(file >= 0, CARRY_E_FILE, "%s: %s", path, strerror(errno));
    carry_status status = open_mapped(model, path, file, options);
    close(file);
    return status;
}

void carry_model_close(carry_model **model)
{
    if (!model || !*model) return;
    cy_model_release(*model);
    *model = NULL;
}

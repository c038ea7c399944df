/* A model: a graph, and its weights packed by a backend. Immutable after open, counted by its users. */
#ifndef CY_RUN_MODEL_H
#define CY_RUN_MODEL_H

#include "backend.h"

#include <stdatomic.h>

struct carry_model {
    atomic_uint users; /* the caller's hold and one per open session */
    const cy_backend *backend;
    void *device_model; /* the backend's */
    uint32_t device_index;
    char device[16]; /* "cpu", "cuda:0" */
    char note[256];  /* why "auto" took no better device, or "" */
    carry_precision precision;
    uint64_t device_bytes;
    cy_graph *graph; /* its weights' data is gone: only names and shapes remain */
    uint32_t weight_count;
};

void cy_model_hold(carry_model *model);
void cy_model_release(carry_model *model);

#endif

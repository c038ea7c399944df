/* Another model under a session: states and handles stay, all else of the backend's is opened anew. */
#include "base/mem.h"
#include "run/session.h"
#include "run/state_format.h"

#include <string.h>

static const char *precision_word(carry_precision precision)
{
    static const char *const words[] = {[CARRY_COMPUTE_FP32] = "fp32",
                                        [CARRY_COMPUTE_TF32] = "tf32",
                                        [CARRY_COMPUTE_BF16] = "bf16",
                                        [CARRY_COMPUTE_FP16] = "fp16"};
    return words[precision];
}

/* The fingerprint says nothing of outputs; but the session has a place for each, and so have its callers. */
static carry_status check_outputs(const cy_graph *graph, const cy_graph *own)
{
    CY_CHECK(graph->output_count == own->output_count, CARRY_E_MISMATCH,
             "the new model has %u outputs, the session's has %u", graph->output_count,
             own->output_count);
    static const char *const tensors[] = {
        [CY_PORT_Y] = "output", [CY_PORT_H] = "h", [CY_PORT_C] = "c"};
    for (uint32_t i = 0; i < own->output_count; i++) {
        cy_value new = graph->outputs[i], old = own->outputs[i];
        CY_CHECK(
            new.node == old.node &&new.port == old.port, CARRY_E_MISMATCH,
            "output %u of the new model is the %s of layer '%s', of the session's it "
            "is the %s of '%s'",
            i, tensors[new.port], graph->nodes[new.node].name, tensors[old.port],
            own->nodes[old.node].name);
    }
    return CARRY_OK;
}

static carry_status check_model(const carry_session *session, const carry_model *model)
{
    const carry_model *own = session->model;
    CY_CHECK(model->backend == own->backend && model->device_index == own->device_index,
             CARRY_E_MISMATCH, "the new model is on device '%s', the session on '%s'",
             model->device, own->device);
    CY_CHECK(model->precision == own->precision, CARRY_E_MISMATCH,
             "the new model computes in %s, the session's in %s",
             precision_word(model->precision), precision_word(own->precision));
    if (strcmp(model->graph->layers, own->graph->layers) != 0)
        return cy_state_difference("the new model does not fit the session",
                                   model->graph->layers, own->graph->layers);
    return check_outputs(model->graph, own->graph);
}

/* A workspace for the new model, with the options of the old one and every shape it has captured so far. */
static carry_status open_workspace(carry_session *session, const carry_model *model,
                                   const cy_session_facts *facts, void **opened)
{
    cy_limits limits = session->limits;
    carry_graph_shape *shapes = cy_alloc(facts->graphs * sizeof *shapes);
    CY_CHECK(shapes, CARRY_E_MEMORY, "out of memory: %u shapes of graphs", facts->graphs);
    session->backend->session_shapes(session->device_session, shapes);
    limits.graphs = shapes;
    limits.graph_count = facts->graphs;
    carry_status status =
        session->backend->session_open(model->device_model, &limits, opened);
    cy_free(shapes);
    return status;
}

/* What failed may have been the device, and the states with it: the session should know it before its next call.
 * The first sentence says what went wrong. */
static carry_status look_after(carry_session *session, carry_status status)
{
    char sentence[CY_SENTENCE_BYTES];
    snprintf(sentence, sizeof sentence, "%s", cy_error());
    if (session->backend->session_wait(session->device_session) == CARRY_OK)
        return status;
    return cy_fail(status, "%s", sentence);
}

static carry_status set_model(carry_session *session, carry_model *model)
{
    CY_TRY(check_model(session, model));
    CY_TRY(session->backend->session_wait(session->device_session));
    cy_session_facts facts;
    session->backend->session_facts(session->device_session, &facts);
    void *opened;
    carry_status status = open_workspace(session, model, &facts, &opened);
    if (status != CARRY_OK) return look_after(session, status);

    carry_model *old = session->model;
    cy_model_hold(model);
    session->backend->session_close(session->device_session);
    session->device_session = session->pool.device_session = opened;
    session->model = model;
    session->graph_chunks += facts.graph_chunks;
    session->plain_chunks += facts.plain_chunks;
    cy_model_release(old);
    return CARRY_OK;
}

carry_status carry_session_set_model(carry_session *session, carry_model *model)
{
    CY_CHECK(model, CARRY_E_ARGUMENT, "carry_session_set_model: model is NULL");
    CY_TRY(cy_session_enter(session, "carry_session_set_model"));
    carry_status status = set_model(session, model);
    cy_session_leave(session);
    return status;
}

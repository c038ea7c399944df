/* A session: a pool of states and a backend's workspace, used by one thread at a time. */
#ifndef CY_RUN_SESSION_H
#define CY_RUN_SESSION_H

#include "run/model.h"
#include "run/pool.h"

struct carry_session {
    atomic_flag busy;
    carry_model *model;
    const cy_backend *backend;
    void *device_session;
    cy_pool pool;
    cy_limits limits;
    uint64_t workspace_bytes;
    uint64_t graph_chunks, plain_chunks; /* run by models before the present one */

    /* of one group of rows, [limits.max_rows] */
    cy_row *rows;
    uint64_t *order;        /* steps and row in one number, for sorting */
    cy_run_output *outputs; /* [graph->output_count] */
};

/* Every call on a session is between these two; the second thread is told, not let in. */
carry_status cy_session_enter(carry_session *session, const char *function);
void cy_session_leave(carry_session *session);

/* Enters even a session that is dead: to say what it is. */
carry_status cy_session_take(carry_session *session, const char *function);

/* What carry_run and the functions on many states share: marks the slots of one call. */
carry_status cy_session_mark(carry_session *session, carry_state state, cy_slot **slot);

/* Prepares the next version of a slot as a copy of the present one: change it, then cy_slot_commit. */
carry_status cy_slot_begin(carry_session *session, cy_slot *slot, float **next);

#endif

/* What a file of saved states holds, for those who write one and those who must believe one:
 *
 *     tensors `LAYER/h`, `LAYER/c` ..., float32 [states, units], state i in row i
 *     carry.keys, int64 [states], if the states have keys (src/run/pool_file.c)
 *     metadata: carry.kind, carry.version, carry.fingerprint, carry.layers, carry.checksum
 *
 * and how rows of these tensors become versions of states, and back. */
#ifndef CY_RUN_STATE_FORMAT_H
#define CY_RUN_STATE_FORMAT_H

#include "graph/safetensors.h"
#include "run/session.h"

#define CY_STATE_KEYS "carry.keys" /* no layer's tensor: those have a slash */

typedef struct cy_state_table {
    carry_session *session;
    uint64_t count;     /* states */
    cy_st_tensor *list; /* [listed]; data: row 0 of what is read or written next */
    uint32_t *indices;  /* [listed], which of the graph's state tensors each is */
    size_t listed;
    char *names;
    float *versions;    /* [room][state_floats], on the host */
    float **places;     /* [room], where they lie in the pool */
    size_t room;        /* states on their way at once: about a MiB of them */
    cy_st_tensor *keys; /* of a file that was checked, NULL: it has none */
} cy_state_table;

/* The tensors that `count` states of the session have in a file. `tensors`: one byte for each, 0 leaves it out; NULL:
 * all. The list has room for one more. Errors: CARRY_E_MEMORY. */
carry_status cy_state_table_open(cy_state_table *table, carry_session *session,
                                 uint64_t count, const uint8_t *tensors);
void cy_state_table_close(cy_state_table *table);

/* Metadata of a file to write; NULL when there is no memory. */
json_t *cy_state_metadata(const cy_graph *graph);

/* Metadata of a file to read, where present: kind and version; model. */
carry_status cy_state_check_kind(const cy_safetensors *file);
carry_status cy_state_check_model(const cy_safetensors *file, const cy_graph *graph);

/* The file has the table's tensors, of the right shapes, and no others but keys; table->list is then the file's. */
carry_status cy_state_check_tensors(cy_state_table *table, const cy_safetensors *file);

/* The first line in which the descriptions of two models' layers differ: CARRY_E_MISMATCH. `what` begins the sentence. */
carry_status cy_state_difference(const char *what, const char *other, const char *own);

/* Bytes of one state in the table's tensors. */
uint64_t cy_state_row_bytes(const cy_state_table *table);

/* States to rows 0 .. count - 1 of list[].data. On a device `room` states are one copy. */
carry_status cy_state_rows_read(const cy_state_table *table, const carry_state *states,
                                size_t count);

/* Rows 0 .. count - 1 of list[].data to the next versions of states, which all differ; tensors that are not listed are as
 * they are now. cy_slot_commit, when all have come so far. */
carry_status cy_state_rows_write(const cy_state_table *table, const carry_state *states,
                                 size_t count);

#endif

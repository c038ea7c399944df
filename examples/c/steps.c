/* steps MODEL.carry < NUMBERS: every number is one time step; prints the answer to each. */
#include <carry/carry.h>
#include <stdio.h>

int main(int argc, char **argv)
{
    carry_model *model = NULL;
    carry_session *session = NULL;
    carry_state state; /* one sequence's memory: it lives on from call to call */
    if (argc != 2 || carry_model_open(&model, argv[1], NULL) ||
        carry_session_open(&session, model, NULL) || carry_state_open(session, &state)) {
        fprintf(stderr, "%s\n", argc == 2 ? carry_error() : "usage: steps MODEL.carry");
        return 1;
    }
    float x, y;
    carry_array in = {.size = sizeof in, .data = &x, .bytes = sizeof x};
    carry_array out = {.size = sizeof out, .data = &y, .bytes = sizeof y};
    carry_batch batch = {.size = sizeof batch, .rows = 1, .states = &state};
    batch.max_steps = 1;
    batch.inputs = &in;
    batch.outputs = &out;
    batch.input_count = batch.output_count = 1;
    carry_status status = CARRY_OK;
    while (!status && scanf("%f", &x) == 1)
        if (!(status = carry_run(session, &batch))) printf("%.6f\n", y);
    if (status) fprintf(stderr, "%s\n", carry_error());
    carry_session_close(&session); /* and its states with it */
    carry_model_close(&model);
    return status ? 1 : 0;
}

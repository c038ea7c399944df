/* The checksum of carry's files: the hash that is named, the file that is written, and files from before it changed,
 * which lie in old_files/: a model, and a pool of three states with keys. */
#define _GNU_SOURCE /* memmem */
#include "scratch_folder.h"
#include "support.h"

#include "base/mem.h"
#include "graph/checksum.h"

#include <stdlib.h>
#include <string.h>

#define OLD_MODEL "tests/api/old_files/fnv.carry"
#define OLD_POOL  "tests/api/old_files/fnv.pool"

enum { STATES_THERE = 3, TENSORS = 4 };

/* Of the old model; build_model(&spec) is the same model. */
static const model_spec spec = {
    .features = 2, .layers = {LSTM_LAYER(3, SEQUENCES), LSTM_LAYER(5, 0)}, .seed = 1};

static char path[PATH_BYTES];

static void set_up(void)
{
    folder_open();
    folder_path(path, "file");
}

TestSuite(checksum, .init = set_up, .fini = folder_close);

static uint64_t of_pieces(cy_checksum_kind kind, const unsigned char *data, size_t bytes,
                          size_t piece)
{
    cy_checksum sum;
    cy_checksum_begin(&sum, kind);
    for (size_t at = 0; at < bytes; at += piece)
        cy_checksum_add(&sum, data + at, bytes - at < piece ? bytes - at : piece);
    return cy_checksum_value(&sum);
}

/* What other implementations give: Python's xxhash 3 (the first number stands in xxHash's own specification too), and for
 * FNV-1a the vectors of its authors. */
Test(checksum, is_the_hash_that_it_is_called)
{
    unsigned char data[5000];
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (unsigned char)(i * 7);
    cr_assert_eq(of_pieces(CY_CHECKSUM_XXH3, data, 0, 1), UINT64_C(0x2d06800538d394c2));
    cr_assert_eq(of_pieces(CY_CHECKSUM_XXH3, (const unsigned char *)"carry", 5, 5),
                 UINT64_C(0x1368a781a6821352));
    cr_assert_eq(of_pieces(CY_CHECKSUM_FNV, (const unsigned char *)"a", 1, 1),
                 UINT64_C(0xaf63dc4c8601ec8c));
    cr_assert_eq(of_pieces(CY_CHECKSUM_FNV, (const unsigned char *)"foobar", 6, 4),
                 UINT64_C(0x85944171f73967e8));
    for (size_t piece = 1; piece <= sizeof data; piece = piece * 3 + 1) {
        cr_assert_eq(of_pieces(CY_CHECKSUM_XXH3, data, sizeof data, piece),
                     UINT64_C(0x6abe8be5abcb2760), "in pieces of %zu", piece);
        cr_assert_eq(of_pieces(CY_CHECKSUM_FNV, data, sizeof data, piece),
                     of_pieces(CY_CHECKSUM_FNV, data, sizeof data, 5000));
    }
}

Test(checksum, says_of_which_kind_it_is)
{
    static const char *const of_no_kind[] = {
        "",
        "xxh3-64:",
        "xxh3-64:0123456789abcde",
        "xxh3-64:0123456789abcdef0",
        "xxh3-64:0123456789abcdeg",
        "xxh3-63:0123456789abcdef",
        "0123456789abcde",
        "0123456789ABCDEF",
        "sha256:0123456789abcdef",
    };
    cy_checksum_kind kind;
    char text[CY_CHECKSUM_TEXT_BYTES];
    for (cy_checksum_kind k = CY_CHECKSUM_FNV; k <= CY_CHECKSUM_XXH3; k++) {
        cy_checksum_print(k, UINT64_C(0x0123456789abcdef), text);
        cr_assert_str_eq(text, k == CY_CHECKSUM_FNV ? "0123456789abcdef"
                                                    : "xxh3-64:0123456789abcdef");
        cr_assert(cy_checksum_find_kind(text, &kind) && kind == k, "%s", text);
    }
    for (size_t i = 0; i < sizeof of_no_kind / sizeof *of_no_kind; i++)
        cr_assert_not(cy_checksum_find_kind(of_no_kind[i], &kind), "'%s'", of_no_kind[i]);
}

/* ---- files from before ---------------------------------------------------------------------- */

static void *old_file(const char *name, size_t *bytes)
{
    void *file = file_read(name, bytes);
    cr_assert_not_null(file, "%s is not there: tests run in the folder of the sources",
                       name);
    return file;
}

static float saved_number(size_t state, size_t tensor, size_t k)
{
    return (float)(100 * state + 10 * tensor + k) / 8 - 10;
}

static void has_the_saved_numbers(const rig *r, const carry_state *states)
{
    float values[5];
    for (size_t i = 0; i < STATES_THERE; i++)
        for (size_t tensor = 0; tensor < TENSORS; tensor++) {
            OK(carry_state_read(r->session, states[i], tensor, values, r->state[tensor]));
            for (size_t k = 0; k < r->state[tensor]; k++)
                cr_assert_eq(values[k], saved_number(i, tensor, k));
        }
}

static rig old_rig(void)
{
    carry_model *model;
    OK(carry_model_open(&model, OLD_MODEL, NULL));
    return rig_of(model, NULL);
}

Test(checksum, a_model_from_before_is_the_same_model)
{
    enum { COUNT = 3 * 5 };
    rig old = old_rig(), now = rig_open(&spec, NULL);
    float *x = random_input(&now, 3, 4, 1), a[COUNT], b[COUNT];
    call_spec call = {.rows = 3, .max_steps = 4, .x = x, .y = a};
    OK(run_call(&old, &call));
    call.y = b;
    OK(run_call(&now, &call));
    SAME_BITS(a, b, COUNT);
    free(x);
    rig_close(&old);
    rig_close(&now);
}

Test(checksum, a_pool_from_before_loads)
{
    carry_state states[STATES_THERE];
    int64_t keys[STATES_THERE];
    size_t count, bytes;
    rig r = old_rig();
    OK(carry_pool_load(r.session, OLD_POOL, states, keys, STATES_THERE, &count));
    cr_assert(count == STATES_THERE && keys[0] == 11 && keys[1] == -22 && keys[2] == 33);
    has_the_saved_numbers(&r, states);
    for (size_t i = 0; i < STATES_THERE; i++)
        OK(carry_state_reset(r.session, states[i]));
    void *file = old_file(OLD_POOL, &bytes);
    OK(carry_states_restore(r.session, states, STATES_THERE, NULL, file, bytes));
    has_the_saved_numbers(&r, states);
    free(file);
    rig_close(&r);
}

/* Every bit of them counts as it did: nothing is taken from a file with one of them flipped. */
Test(checksum, damage_of_files_from_before_is_found)
{
    carry_state states[STATES_THERE];
    size_t bytes, count;
    rig r = old_rig();
    unsigned char *file = old_file(OLD_POOL, &bytes);
    open_states(&r, states, STATES_THERE);
    for (size_t at = 0; at < bytes; at++) {
        file[at] ^= 4;
        carry_status status =
            carry_states_restore(r.session, states, STATES_THERE, NULL, file, bytes);
        file[at] ^= 4;
        /* spaces behind the JSON turn into '$', which is no JSON */
        cr_assert_neq(status, CARRY_OK, "byte %zu", at);
    }
    file[bytes - 1] ^= 1;
    file_write(path, file, bytes);
    FAILS(CARRY_E_FORMAT, "damaged: the checksum is ",
          carry_pool_load(r.session, path, states, NULL, STATES_THERE, &count));
    free(file);
    unsigned char *model_file = old_file(OLD_MODEL, &bytes);
    carry_model *model;
    model_file[bytes - 1] ^= 1;
    FAILS(CARRY_E_FORMAT, "damaged: the checksum is ",
          carry_model_open_bytes(&model, model_file, bytes, NULL));
    free(model_file);
    rig_close(&r);
}

/* ---- files that are written now ------------------------------------------------------------- */

static bool holds(const void *file, size_t bytes, const char *words)
{
    return memmem(file, bytes, words, strlen(words)) != NULL;
}

Test(checksum, new_files_say_xxh3)
{
    carry_state states[STATES_THERE];
    size_t bytes;
    rig r = old_rig();
    open_states(&r, states, STATES_THERE);
    void *file = save(&r, states, STATES_THERE, &bytes);
    cr_assert(holds(file, bytes, "\"carry.checksum\":\"xxh3-64:") &&
              holds(file, bytes, "\"carry.version\":\"2\""));
    free(file);
    OK(carry_pool_save(r.session, path, states, NULL, STATES_THERE));
    file = file_read(path, &bytes);
    cr_assert(holds(file, bytes, "\"carry.checksum\":\"xxh3-64:"));
    free(file);
    file = build_bytes(&spec, &bytes);
    cr_assert(holds(file, bytes, "\"carry.checksum\":\"xxh3-64:"));
    cy_free(file);
    rig_close(&r);
}

Test(checksum, of_an_unknown_kind_is_damage)
{
    carry_state states[STATES_THERE];
    size_t bytes, count;
    rig r = old_rig();
    open_states(&r, states, STATES_THERE);
    char *file = save(&r, states, STATES_THERE, &bytes);
    char *kind = memmem(file, bytes, "xxh3-64:", 8);
    cr_assert_not_null(kind);
    memcpy(kind, "md5-128:", 8);
    FAILS(CARRY_E_FORMAT, "damaged: the file states the checksum 'md5-128:",
          carry_states_restore(r.session, states, STATES_THERE, NULL, file, bytes));
    file_write(path, file, bytes);
    FAILS(CARRY_E_FORMAT, "of no known kind",
          carry_pool_load(r.session, path, states, NULL, STATES_THERE, &count));
    free(file);
    rig_close(&r);
}

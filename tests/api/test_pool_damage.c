/* Pool files from anywhere: cut, flipped, written by hand. Each is refused with a sentence and opens no state, or it
 * says what was saved. */
#define _GNU_SOURCE /* pwrite, ftruncate */
#include "scratch_folder.h"
#include "support.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const model_spec small = {
    .features = 1, .layers = {LSTM_LAYER(2, SEQUENCES), DENSE_LAYER(1, CY_ACT_LINEAR)}};

#define ROWS 3
static const int64_t keys[ROWS] = {11, -12, 13};

static char path[PATH_BYTES];
static rig r;
static carry_state states[ROWS];
static void *saved; /* the states, as carry_states_save has them */
static size_t saved_bytes;

static void set_up(void)
{
    folder_open();
    folder_path(path, "pool");
    r = rig_open(&small, NULL);
    open_states(&r, states, ROWS);
    const float x[ROWS] = {1, -2, 3};
    float y[ROWS];
    OK(run_call(&r, &(call_spec){
                        .rows = ROWS, .max_steps = 1, .states = states, .x = x, .y = y}));
    saved = save(&r, states, ROWS, &saved_bytes);
    OK(carry_pool_save(r.session, path, states, keys, ROWS));
}

static void tear_down(void)
{
    free(saved);
    rig_close(&r);
    folder_close();
}

TestSuite(pool_damage, .init = set_up, .fini = tear_down);

static bool is_refusal(carry_status status)
{
    return status == CARRY_E_FORMAT || status == CARRY_E_UNSUPPORTED ||
           status == CARRY_E_MISMATCH || status == CARRY_E_CAPACITY ||
           status == CARRY_E_FULL;
}

static void check_load(const char *what, size_t at)
{
    carry_state loaded[ROWS + 1];
    int64_t back[ROWS + 1];
    size_t count;
    carry_pool_info before = {.size = sizeof before}, after = before;
    OK(carry_session_get_pool(r.session, &before));
    carry_status status =
        carry_pool_load(r.session, path, loaded, back, ROWS + 1, &count);
    if (status != CARRY_OK) {
        cr_assert(is_refusal(status), "%s %zu: %s: %s", what, at,
                  carry_status_name(status), carry_error());
        cr_assert(strstr(carry_error(), path) != NULL, "%s %zu: %s", what, at,
                  carry_error());
        for (size_t i = 0; i <= ROWS; i++)
            cr_assert_eq(loaded[i].id, 0, "%s %zu: a handle was given", what, at);
        OK(carry_session_get_pool(r.session, &after));
        cr_assert_eq(before.opened, after.opened, "%s %zu: a state was opened", what, at);
        return;
    }
    cr_assert_eq(count, ROWS, "%s %zu: %zu states", what, at, count);
    size_t bytes;
    void *now = save(&r, loaded, ROWS, &bytes);
    cr_assert(bytes == saved_bytes && memcmp(now, saved, bytes) == 0 &&
                  memcmp(back, keys, sizeof keys) == 0,
              "%s %zu: a damaged file was loaded", what, at);
    free(now);
    for (size_t i = 0; i < ROWS; i++)
        OK(carry_state_close(r.session, &loaded[i]));
}

Test(pool_damage, undamaged)
{
    check_load("nothing", 0);
    carry_pool_info info = {.size = sizeof info};
    OK(carry_session_get_pool(r.session, &info));
    cr_assert_eq(info.opened, 2 * ROWS, "the file was refused: %s", carry_error());
}

Test(pool_damage, cut_at_every_byte_or_longer)
{
    size_t bytes;
    unsigned char *file = file_read(path, &bytes);
    for (size_t cut = bytes; cut-- > 0;) {
        cr_assert_eq(truncate(path, (off_t)cut), 0);
        carry_state loaded[ROWS];
        size_t count;
        carry_status status =
            carry_pool_load(r.session, path, loaded, NULL, ROWS, &count);
        cr_assert(is_refusal(status), "cut at %zu: %s", cut, carry_status_name(status));
        check_load("cut at", cut);
    }
    file_write(path, file, bytes);
    for (size_t more = 1; more < 5000; more += more) {
        cr_assert_eq(truncate(path, (off_t)(bytes + more)), 0);
        check_load("longer by", more);
    }
    free(file);
}

Test(pool_damage, every_bit_flipped)
{
    size_t bytes;
    unsigned char *file = file_read(path, &bytes);
    int descriptor = open(path, O_WRONLY);
    cr_assert_geq(descriptor, 0);
    for (size_t at = 0; at < bytes; at++) {
        for (int bit = 0; bit < 8; bit++) {
            unsigned char flipped = file[at] ^ (unsigned char)(1 << bit);
            cr_assert_eq(pwrite(descriptor, &flipped, 1, (off_t)at), 1);
            check_load("bit flipped in byte", at);
        }
        cr_assert_eq(pwrite(descriptor, file + at, 1, (off_t)at), 1);
    }
    check_load("put together again", 0);
    close(descriptor);
    free(file);
}

#define TENSOR(name, dtype, shape, from, to)                                             \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" #from \
    "," #to "]}"

/* Checksums are for damage; whoever means harm leaves them out. */
Test(pool_damage, files_written_by_hand)
{
    static const struct {
        const char *header;
        uint64_t data_bytes; /* zeros; a sparse file takes no room for them */
        carry_status status;
        const char *words;
    } files[] = {
        {"{}", 0, CARRY_E_MISMATCH, "'layer0/h' is missing"},
        {"{" TENSOR("layer0/h", "F32", "[3,2]", 0, 24) "," TENSOR("layer0/c", "F32",
                                                                  "[4,2]", 24, 56) "}",
         56, CARRY_E_MISMATCH, "'layer0/c' is [4, 2], expected [3, 2]"},
        {"{" TENSOR("layer0/h", "F32", "[3,3]", 0, 36) "," TENSOR("layer0/c", "F32",
                                                                  "[3,2]", 36, 60) "}",
         60, CARRY_E_MISMATCH, "'layer0/h' is [3, 3], expected [3, 2]"},
        {"{" TENSOR("layer0/h", "F32", "[6]", 0, 24) "," TENSOR("layer0/c", "F32",
                                                                "[3,2]", 24, 48) "}",
         48, CARRY_E_CAPACITY, "6 states"},
        {"{" TENSOR("layer0/h", "F32", "[]", 0, 4) "," TENSOR("layer0/c", "F32", "[3,2]",
                                                              4, 28) "}",
         28, CARRY_E_MISMATCH, "'layer0/h' has 0 axes"},
        {"{" TENSOR("layer0/h", "F64", "[3,2]", 0, 48) "," TENSOR("layer0/c", "F32",
                                                                  "[3,2]", 48, 72) "}",
         72, CARRY_E_MISMATCH, "F64"},
        {"{" TENSOR("layer0/h", "F32", "[3,2]", 0, 24) "}", 24, CARRY_E_MISMATCH,
         "'layer0/c' is missing"},
        {"{" TENSOR("layer0/h", "F32", "[3,2]", 0, 24) "," TENSOR("layer0/h", "F32",
                                                                  "[3,2]", 24, 48) "}",
         48, CARRY_E_FORMAT, "duplicate"},
        {"{" TENSOR("layer0/h", "F32", "[3,2]", 0, 24) "," TENSOR("layer0/c", "F32",
                                                                  "[3,2]", 0, 24) "}",
         24, CARRY_E_FORMAT, "overlap"},
        {"{" TENSOR("layer0/h", "F32", "[3,2]", 0,
                    24) "," TENSOR("layer0/c", "F32", "[3,2]", 24,
                                   48) "," TENSOR("more", "F32", "[3]", 48, 60) "}",
         60, CARRY_E_MISMATCH, "'more'"},
        /* keys */
        {"{" TENSOR("layer0/h", "F32", "[3,2]", 0,
                    24) "," TENSOR("layer0/c", "F32", "[3,2]", 24,
                                   48) "," TENSOR("carry.keys", "I64", "[2]", 48, 64) "}",
         64, CARRY_E_MISMATCH, "carry.keys"},
        {"{" TENSOR("layer0/h", "F32", "[3,2]", 0, 24) "," TENSOR(
             "layer0/c", "F32", "[3,2]", 24, 48) "," TENSOR("carry.keys", "I64", "[3,1]",
                                                            48, 72) "}",
         72, CARRY_E_MISMATCH, "carry.keys"},
        {"{" TENSOR("layer0/h", "F32", "[3,2]", 0,
                    24) "," TENSOR("layer0/c", "F32", "[3,2]", 24,
                                   48) "," TENSOR("carry.keys", "F64", "[3]", 48, 72) "}",
         72, CARRY_E_MISMATCH, "carry.keys"},
        {"{" TENSOR("layer0/h", "F32", "[3,2]", 0, 24) "," TENSOR("layer0/c", "F32",
                                                                  "[3,2]", 24, 48) "}",
         48, CARRY_E_MISMATCH, "without keys"},
        /* counts */
        {"{" TENSOR("layer0/h", "F32", "[1000000000,2]", 0, 8000000000) "," TENSOR(
             "layer0/c", "F32", "[1000000000,2]", 8000000000, 16000000000) "}",
         16000000000, CARRY_E_CAPACITY, "1000000000 states"},
        {"{" TENSOR("layer0/h", "F32", "[1000000000,2]", 0, 8000000000) "," TENSOR(
             "layer0/c", "F32", "[1000000000,2]", 8000000000, 16000000000) "}",
         48, CARRY_E_FORMAT, "cut off"},
        {"{" TENSOR("layer0/h", "F32", "[2305843009213693952,2]", 0, 0) "}", 0,
         CARRY_E_FORMAT, "larger than memory"},
        {"{" TENSOR("layer0/h", "F32", "[-3,2]", 0, 0) "}", 0, CARRY_E_FORMAT, "axis 0"},
        {"{\"__metadata__\":{\"carry.kind\":\"model\"}}", 0, CARRY_E_FORMAT, "'model'"},
        {"{\"__metadata__\":{\"carry.version\":\"9\"}}", 0, CARRY_E_UNSUPPORTED, "'9'"},
        {"{\"__metadata__\":{\"carry.checksum\":\"0123456789abcdef\"}}", 0,
         CARRY_E_FORMAT, "damaged"},
        {"{\"__metadata__\":{\"carry.fingerprint\":\"0123456789abcdef\"}}", 0,
         CARRY_E_MISMATCH, "0123456789abcdef"},
    };
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        unsigned char head[1024] = {0};
        size_t length = strlen(files[i].header);
        head[0] = (unsigned char)length, head[1] = (unsigned char)(length >> 8);
        memcpy(head + 8, files[i].header, length);
        file_write(path, head, 8 + length);
        cr_assert_eq(truncate(path, (off_t)(8 + length + files[i].data_bytes)), 0);
        check_load("file", i);
        carry_state loaded[ROWS + 1];
        int64_t back[ROWS + 1];
        size_t count;
        FAILS(files[i].status, files[i].words,
              carry_pool_load(r.session, path, loaded, back, ROWS + 1, &count));
    }
}

/* The same tensors, in another order and without metadata: made elsewhere. */
Test(pool_damage, a_plain_safetensors_file_is_a_pool)
{
    static const char header[] = "{" TENSOR("layer0/c", "F32", "[2,2]", 0, 16) "," TENSOR(
        "carry.keys", "I64", "[2]", 16, 32) "," TENSOR("layer0/h", "F32", "[2,2]", 32,
                                                       48) "}";
    static const float c[4] = {1, 2, 3, 4}, h[4] = {5, 6, 7, 8};
    static const int64_t numbers[2] = {100, 200};
    unsigned char file[sizeof header + 8 + 48] = {sizeof header - 1};
    memcpy(file + 8, header, sizeof header - 1);
    memcpy(file + 7 + sizeof header, c, 16);
    memcpy(file + 7 + sizeof header + 16, numbers, 16);
    memcpy(file + 7 + sizeof header + 32, h, 16);
    file_write(path, file, 7 + sizeof header + 48);
    carry_state loaded[2];
    int64_t back[2];
    size_t count;
    OK(carry_pool_load(r.session, path, loaded, back, 2, &count));
    cr_assert_eq(count, 2);
    for (size_t i = 0; i < 2; i++) {
        float got[2];
        cr_assert_eq(back[i], numbers[i]);
        OK(carry_state_read(r.session, loaded[i], 0, got, 2));
        SAME_BITS(got, h + 2 * i, 2);
        OK(carry_state_read(r.session, loaded[i], 1, got, 2));
        SAME_BITS(got, c + 2 * i, 2);
    }
}

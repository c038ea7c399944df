/* Many states to a file, and back: as in state_format.h, with keys.
 *
 * A million states of 4 KiB are 4 GiB, so neither way is the file ever in memory. A tensor has a row for each state,
 * and a state has a row in each tensor: rows go in blocks, through a column of the block for each tensor.
 *
 *     tensor 0  [..... block ......]      one copy for each MiB of states between pool and block,
 *     tensor 1  [..... block ......]      one write or read for each tensor and block
 *     keys      [..................]
 *
 * Memory taken: a block (BLOCK_BYTES, or one state if that is more), a MiB or one state, and the header, which grows with
 * the layers and not with the states; 16 bytes for each state if all open ones are saved. Each tensor's hash goes on from
 * block to block. The header comes last: until then the file beside begins with zeros, and nobody takes it for one. */
#define _POSIX_C_SOURCE 200809L
#include "base/mem.h"
#include "run/replace_file.h"
#include "run/state_format.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BLOCK_BYTES ((uint64_t)4 << 20)

/* A column of `rows` rows for each tensor of the table. */
typedef struct block {
    unsigned char *data;
    uint64_t rows;
} block;

static carry_status open_block(block *b, const cy_state_table *table)
{
    uint64_t row_bytes = cy_state_row_bytes(table);
    b->rows = row_bytes ? BLOCK_BYTES / row_bytes : table->count;
    if (b->rows < 1) b->rows = 1;
    if (b->rows > table->count) b->rows = table->count;
    b->data = cy_alloc(b->rows * row_bytes);
    CY_CHECK(b->data, CARRY_E_MEMORY, "out of memory: %llu bytes for a block of the file",
             (unsigned long long)(b->rows * row_bytes));
    unsigned char *column = b->data;
    for (size_t i = 0; i < table->listed; i++) {
        table->list[i].data = column;
        column += b->rows * table->list[i].shape[1] * sizeof(float);
    }
    return CARRY_OK;
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* ---- saving --------------------------------------------------------------------------------- */

typedef struct saver {
    cy_state_table table;
    const carry_state *states;
    const int64_t *keys;
    uint64_t sum; /* of the checksum so far: metadata and whole tensors */
    cy_replacement file;
    block block;
} saver;

static carry_status save_rows(saver *s)
{
    cy_state_table *table = &s->table;
    cy_checksum *hashes = cy_alloc(table->listed * sizeof *hashes);
    CY_CHECK(hashes, CARRY_E_MEMORY, "out of memory: %zu checksums", table->listed);
    for (size_t i = 0; i < table->listed; i++)
        cy_safetensors_hash_begin(&hashes[i], CY_ST_KIND, &table->list[i]);
    carry_status status = CARRY_OK;
    for (uint64_t row = 0, rows; row < table->count && status == CARRY_OK; row += rows) {
        rows = least(s->block.rows, table->count - row);
        status = cy_state_rows_read(table, s->states + row, rows);
        for (size_t i = 0; i < table->listed && status == CARRY_OK; i++) {
            const cy_st_tensor *tensor = &table->list[i];
            uint64_t row_bytes = tensor->shape[1] * sizeof(float);
            cy_checksum_add(&hashes[i], tensor->data, rows * row_bytes);
            status = cy_replace_write(&s->file, tensor->data, rows * row_bytes,
                                      tensor->offset + row * row_bytes);
        }
    }
    for (size_t i = 0; i < table->listed; i++)
        s->sum += cy_checksum_value(&hashes[i]);
    cy_free(hashes);
    return status;
}

static carry_status save_keys(saver *s)
{
    if (!s->keys) return CARRY_OK;
    const cy_st_tensor *tensor = &s->table.list[s->table.listed];
    cy_checksum hash;
    cy_safetensors_hash_begin(&hash, CY_ST_KIND, tensor);
    cy_checksum_add(&hash, s->keys, tensor->bytes);
    s->sum += cy_checksum_value(&hash);
    return cy_replace_write(&s->file, s->keys, tensor->bytes, tensor->offset);
}

static carry_status save_data(saver *s, unsigned char *header, size_t bytes)
{
    CY_TRY(open_block(&s->block, &s->table));
    CY_TRY(save_rows(s));
    CY_TRY(save_keys(s));
    CY_TRY(cy_safetensors_enter(header, bytes, s->sum));
    return cy_replace_write(&s->file, header, bytes, 0);
}

static carry_status save_file(saver *s)
{
    cy_state_table *table = &s->table;
    size_t tensors = table->listed;
    if (s->keys)
        table->list[tensors++] = (cy_st_tensor){
            .name = CY_STATE_KEYS, .dtype = "I64", .rank = 1, .shape = {table->count}};
    json_t *metadata = cy_state_metadata(table->session->model->graph);
    unsigned char *header = NULL;
    size_t bytes;
    carry_status status =
        metadata ? cy_safetensors_header(metadata, table->list, tensors, &header, &bytes)
                 : cy_fail(CARRY_E_MEMORY, "out of memory saving %llu states",
                           (unsigned long long)table->count);
    if (status == CARRY_OK) {
        s->sum = cy_safetensors_hash_metadata(CY_ST_KIND, metadata);
        status = save_data(s, header, bytes);
    }
    cy_free(s->block.data);
    cy_free(header);
    json_decref(metadata);
    return status;
}

typedef struct opened {
    uint64_t number; /* pool->opened at its opening */
    carry_state state;
} opened;

static int compare_opened(const void *left, const void *right)
{
    const opened *a = left, *b = right;
    return a->number < b->number ? -1 : a->number > b->number;
}

/* All open states in the order of their opening. Slots are mostly opened in the order they lie in. */
static carry_status list_open(const cy_pool *pool, carry_state **states, size_t *count)
{
    *count = cy_pool_open_count(pool);
    opened *list = cy_alloc(*count * sizeof *list);
    CY_CHECK(list, CARRY_E_MEMORY, "out of memory listing %zu states", *count);
    size_t found = 0;
    bool sorted = true;
    for (uint32_t i = 0; i < pool->slot_count; i++) {
        const cy_slot *slot = cy_pool_slot(pool, i);
        if (!slot->open) continue;
        list[found] = (opened){slot->opened, cy_pool_state(pool, slot)};
        sorted = sorted && (found == 0 || list[found - 1].number < list[found].number);
        found++;
    }
    if (!sorted) qsort(list, found, sizeof *list, compare_opened);
    *states = (carry_state *)(void *)list; /* in place: they are the smaller */
    for (size_t i = 0; i < found; i++)
        (*states)[i] = list[i].state;
    return CARRY_OK;
}

static carry_status save_states(carry_session *session, const char *path,
                                const carry_state *states, const int64_t *keys,
                                size_t count)
{
    cy_slot *slot;
    for (size_t i = 0; i < count; i++)
        CY_TRY(cy_pool_find(&session->pool, states[i], &slot));
    saver s = {.states = states, .keys = keys};
    CY_TRY(cy_state_table_open(&s.table, session, count, NULL));
    carry_status status =
        s.table.listed > 0 || keys || count == 0
            ? cy_replace_begin(&s.file, path)
            : cy_fail(CARRY_E_ARGUMENT,
                      "carry_pool_save: the model keeps no state, and there are no keys: "
                      "the file could not say that it has %zu states",
                      count);
    if (status == CARRY_OK) {
        status = save_file(&s);
        if (status == CARRY_OK) status = cy_replace_commit(&s.file);
        else cy_replace_discard(&s.file);
    }
    cy_state_table_close(&s.table);
    return status;
}

carry_status carry_pool_save(carry_session *session, const char *path,
                             const carry_state *states, const int64_t *keys, size_t count)
{
    CY_CHECK(path, CARRY_E_ARGUMENT, "carry_pool_save: path is NULL");
    CY_CHECK(states || count == 0, CARRY_E_ARGUMENT,
             "carry_pool_save: states is NULL, which means all, but count is %zu", count);
    CY_CHECK(states || !keys, CARRY_E_ARGUMENT,
             "carry_pool_save: keys without the states that they are of");
    CY_CHECK(count <= CY_MAX_STATES, CARRY_E_ARGUMENT,
             "carry_pool_save: %zu states; %u are the most", count, CY_MAX_STATES);
    CY_TRY(cy_session_enter(session, "carry_pool_save"));
    carry_state *all = NULL;
    carry_status status = states ? CARRY_OK : list_open(&session->pool, &all, &count);
    if (status == CARRY_OK)
        status = save_states(session, path, states ? states : all, keys, count);
    cy_free(all);
    cy_session_leave(session);
    return status;
}

/* ---- loading -------------------------------------------------------------------------------- */

typedef struct loader {
    carry_session *session;
    carry_state *states;
    int64_t *keys;
    size_t capacity, *count;
    int descriptor;
    cy_safetensors file;
    cy_state_table table;
    block block;
} loader;

static carry_status read_at(const loader *l, void *data, size_t bytes, uint64_t offset)
{
    char *at = data;
    while (bytes > 0) {
        ssize_t got = pread(l->descriptor, at, bytes, (off_t)offset);
        if (got < 0 && errno == EINTR) continue;
        CY_CHECK(got >= 0, CARRY_E_FILE, "could not be read: %s", strerror(errno));
        CY_CHECK(got > 0, CARRY_E_FILE, "was cut short while it was read");
        at += got, bytes -= (size_t)got, offset += (uint64_t)got;
    }
    return CARRY_OK;
}

/* Every tensor has a row for each state, so any of them tells how many there are; whether they agree is checked later. */
static uint64_t count_of(const cy_safetensors *file)
{
    return file->count && file->tensors[0].rank ? file->tensors[0].shape[0] : 0;
}

static carry_status check_room(const loader *l, uint64_t count)
{
    cy_pool *pool = &l->session->pool;
    uint64_t room = pool->max_states - cy_pool_open_count(pool);
    CY_CHECK(count <= l->capacity, CARRY_E_CAPACITY,
             "%llu states are saved there, room for %zu handles was given",
             (unsigned long long)count, l->capacity);
    if (count <= room) return CARRY_OK;
    pool->rejected++;
    return cy_fail(CARRY_E_FULL,
                   "%llu states are saved there; %u can be open in the session, and %llu "
                   "are",
                   (unsigned long long)count, pool->max_states,
                   (unsigned long long)cy_pool_open_count(pool));
}

static carry_status verify(const loader *l)
{
    bool stated;
    cy_checksum_kind kind;
    CY_TRY(cy_safetensors_stated(&l->file, &stated, &kind));
    if (!stated) return CARRY_OK;
    unsigned char *piece = cy_alloc(BLOCK_BYTES);
    CY_CHECK(piece, CARRY_E_MEMORY, "out of memory: %llu bytes to read a file through",
             (unsigned long long)BLOCK_BYTES);
    uint64_t sum = cy_safetensors_hash_metadata(kind, l->file.metadata);
    carry_status status = CARRY_OK;
    for (size_t i = 0; i < l->file.count && status == CARRY_OK; i++) {
        const cy_st_tensor *tensor = &l->file.tensors[i];
        cy_checksum hash;
        cy_safetensors_hash_begin(&hash, kind, tensor);
        for (uint64_t at = 0, bytes; at < tensor->bytes && status == CARRY_OK;
             at += bytes) {
            bytes = least(BLOCK_BYTES, tensor->bytes - at);
            status = read_at(l, piece, bytes, tensor->offset + at);
            if (status == CARRY_OK) cy_checksum_add(&hash, piece, bytes);
        }
        sum += cy_checksum_value(&hash);
    }
    cy_free(piece);
    return status == CARRY_OK ? cy_safetensors_compare(&l->file, sum) : status;
}

static carry_status load_keys(const loader *l)
{
    if (!l->keys) return CARRY_OK;
    CY_CHECK(l->table.keys, CARRY_E_MISMATCH, "the states were saved without keys");
    return read_at(l, l->keys, l->table.keys->bytes, l->table.keys->offset);
}

/* Rows of the block become states. Whatever fails, close_loaded finds those that were opened. */
static carry_status open_rows(loader *l, carry_state *states, uint64_t rows)
{
    cy_pool *pool = &l->session->pool;
    cy_slot *slot;
    for (uint64_t row = 0; row < rows; row++) {
        CY_TRY(cy_pool_take(pool, &slot));
        states[row] = cy_pool_state(pool, slot);
    }
    CY_TRY(cy_state_rows_write(&l->table, states, rows));
    for (uint64_t row = 0; row < rows; row++) {
        cy_pool_find(pool, states[row], &slot);
        cy_slot_commit(pool, slot);
    }
    return CARRY_OK;
}

static carry_status load_rows(loader *l)
{
    cy_state_table *table = &l->table;
    CY_TRY(open_block(&l->block, table));
    cy_pool_tick(&l->session->pool);
    for (uint64_t first = 0, rows; first < table->count; first += rows) {
        rows = least(l->block.rows, table->count - first);
        for (size_t i = 0; i < table->listed; i++) {
            const cy_st_tensor *tensor = &table->list[i];
            uint64_t row_bytes = tensor->shape[1] * sizeof(float);
            CY_TRY(read_at(l, (unsigned char *)tensor->data, rows * row_bytes,
                           tensor->offset + first * row_bytes));
        }
        CY_TRY(open_rows(l, l->states + first, rows));
    }
    return CARRY_OK;
}

static void close_loaded(loader *l)
{
    cy_pool *pool = &l->session->pool;
    for (uint64_t row = l->table.count; row-- > 0; l->states[row].id = 0) {
        cy_slot *slot;
        if (l->states[row].id && cy_pool_find(pool, l->states[row], &slot) == CARRY_OK)
            cy_pool_untake(pool, slot);
    }
}

/* Everything is checked before a state is opened. */
static carry_status load_states(loader *l)
{
    const cy_graph *graph = l->session->model->graph;
    CY_TRY(cy_state_check_kind(&l->file));
    if (l->states) {
        CY_TRY(check_room(l, l->table.count));
        CY_TRY(verify(l));
    }
    CY_TRY(cy_state_check_model(&l->file, graph));
    CY_TRY(cy_state_check_tensors(&l->table, &l->file));
    if (!l->states) return CARRY_OK;
    CY_TRY(load_keys(l));
    carry_status status = load_rows(l);
    cy_free(l->block.data);
    if (status != CARRY_OK) close_loaded(l);
    return status;
}

static carry_status load_table(loader *l)
{
    uint64_t count = count_of(&l->file);
    CY_TRY(cy_state_table_open(&l->table, l->session, count, NULL));
    carry_status status = load_states(l);
    if (status == CARRY_OK || status == CARRY_E_CAPACITY) *l->count = count;
    cy_state_table_close(&l->table);
    return status;
}

static carry_status load_file(loader *l)
{
    struct stat facts;
    CY_CHECK(fstat(l->descriptor, &facts) == 0, CARRY_E_FILE, "%s", strerror(errno));
    CY_CHECK(S_ISREG(facts.st_mode), CARRY_E_FILE, "it is not a regular file");
    uint64_t file_bytes = (uint64_t)facts.st_size;
    unsigned char first[8] = {0};
    size_t bytes;
    CY_TRY(read_at(l, first, least(sizeof first, file_bytes), 0));
    CY_TRY(cy_safetensors_header_bytes(first, file_bytes, &bytes));
    unsigned char *header = cy_alloc(bytes);
    CY_CHECK(header, CARRY_E_MEMORY, "out of memory: %zu bytes for a header", bytes);
    carry_status status = read_at(l, header, bytes, 0);
    if (status == CARRY_OK)
        status = cy_safetensors_open_header(&l->file, header, bytes, file_bytes);
    cy_free(header); /* parsed: the strings are copies */
    if (status != CARRY_OK) return status;
    status = load_table(l);
    cy_safetensors_close(&l->file);
    return status;
}

static carry_status load_path(loader *l, const char *path)
{
    carry_status status;
    l->descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (l->descriptor < 0) status = cy_fail(CARRY_E_FILE, "%s", strerror(errno));
    else {
        status = load_file(l);
        close(l->descriptor);
    }
    return status == CARRY_OK ? CARRY_OK : cy_fail(status, "%s: %s", path, cy_error());
}

carry_status carry_pool_load(carry_session *session, const char *path,
                             carry_state *states, int64_t *keys, size_t capacity,
                             size_t *count)
{
    CY_CHECK(count, CARRY_E_ARGUMENT, "carry_pool_load: count is NULL");
    *count = 0;
    for (size_t i = 0; states && i < capacity; i++)
        states[i].id = 0;
    CY_CHECK(path, CARRY_E_ARGUMENT, "carry_pool_load: path is NULL");
    CY_TRY(cy_session_enter(session, "carry_pool_load"));
    loader l = {.session = session,
                .states = states,
                .keys = keys,
                .capacity = capacity,
                .count = count};
    carry_status status = load_path(&l, path);
    cy_session_leave(session);
    return status;
}

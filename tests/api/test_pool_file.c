/* A pool to a file and back: what comes back, here, in another thread and another process; what is refused, and that
 * the old file is then whole and nothing is left beside it. Linked with --wrap for fsync. */
#define _GNU_SOURCE /* mkfifo, setrlimit, symlink */
#include "scratch_folder.h"
#include "support.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static const model_spec spec = {.features = 3,
                                .layers = {LSTM_LAYER(5, SEQUENCES),
                                           LSTM_LAYER(17, SEQUENCES),
                                           DENSE_LAYER(2, CY_ACT_LINEAR)}};

#define ROWS  6
#define STEPS 2
#define COUNT (ROWS * STEPS * 2)

static char path[PATH_BYTES];
static rig r;

static void set_up(void)
{
    folder_open();
    folder_path(path, "pool");
    r = rig_open(&spec, NULL);
}

static void tear_down(void)
{
    rig_close(&r);
    cr_assert_eq(folder_count("pool.tmp-"), 0, "something is left beside the file");
    folder_close();
}

TestSuite(pool_file, .init = set_up, .fini = tear_down);

static void advance(const rig *on, const carry_state *states, size_t rows, uint64_t seed,
                    float *y)
{
    float *x = random_input(on, rows, STEPS, seed);
    OK(run_call(on,
                &(call_spec){
                    .rows = rows, .max_steps = STEPS, .states = states, .x = x, .y = y}));
    free(x);
}

/* Opens states, each with a past of its own; the last has none. */
static void open_with_pasts(carry_state *states)
{
    float y[COUNT];
    open_states(&r, states, ROWS);
    for (size_t i = 0; i + 1 < ROWS; i++)
        advance(&r, &states[i], 1, i + 1, y);
}

static size_t open_count(const rig *on)
{
    carry_pool_info info = {.size = sizeof info};
    OK(carry_session_get_pool(on->session, &info));
    return info.open;
}

static const int64_t keys[ROWS] = {7, -1, INT64_MAX, INT64_MIN, 0, 7};

/* Loads the file into a session of its own: its states continue as `states` do, key by key. */
static void loads_as(const carry_state *states)
{
    rig fresh = rig_open(&spec, NULL);
    carry_state loaded[ROWS + 3];
    int64_t back[ROWS + 3];
    size_t count;
    OK(carry_pool_load(fresh.session, path, loaded, back, ROWS + 3, &count));
    cr_assert_eq(count, ROWS);
    cr_assert_eq(open_count(&fresh), ROWS);
    cr_assert_eq(memcmp(keys, back, sizeof keys), 0);
    for (size_t i = count; i < ROWS + 3; i++)
        cr_assert_eq(loaded[i].id, 0);
    float expected[COUNT], got[COUNT];
    advance(&r, states, ROWS, 99, expected);
    advance(&fresh, loaded, ROWS, 99, got);
    SAME_BITS(expected, got, COUNT);
    rig_close(&fresh);
}

Test(pool_file, states_and_keys_come_back)
{
    carry_state states[ROWS], turned[ROWS];
    open_with_pasts(states);
    for (size_t i = 0; i < ROWS; i++) /* in any order */
        turned[i] = states[(i * 5 + 2) % ROWS];
    OK(carry_pool_save(r.session, path, turned, keys, ROWS));
    loads_as(turned);
}

Test(pool_file, is_what_saving_to_memory_makes)
{
    carry_state states[ROWS], restored[ROWS];
    open_with_pasts(states);
    size_t bytes, saved_bytes, count;
    void *saved = save(&r, states, ROWS, &saved_bytes);
    OK(carry_pool_save(r.session, path, states, NULL, ROWS));
    void *file = file_read(path, &bytes);
    cr_assert(bytes == saved_bytes && memcmp(file, saved, bytes) == 0,
              "the same states give another file");
    free(file);

    /* and each is taken for the other, keys or not */
    file_write(path, saved, saved_bytes);
    OK(carry_pool_load(r.session, path, restored, NULL, ROWS, &count));
    void *again = save(&r, restored, ROWS, &bytes);
    cr_assert(bytes == saved_bytes && memcmp(again, saved, bytes) == 0);
    free(again);
    OK(carry_pool_save(r.session, path, states, keys, ROWS));
    file = file_read(path, &bytes);
    cr_assert_gt(bytes, saved_bytes);
    for (size_t i = 0; i < ROWS; i++)
        OK(carry_state_reset(r.session, restored[i]));
    OK(carry_states_restore(r.session, restored, ROWS, NULL, file, bytes));
    FAILS(CARRY_E_MISMATCH, "[6, 5], expected [5, 5]",
          carry_states_restore(r.session, restored, ROWS - 1, NULL, file, bytes));
    free(file);
    again = save(&r, restored, ROWS, &bytes);
    cr_assert(bytes == saved_bytes && memcmp(again, saved, bytes) == 0);
    free(again);
    free(saved);
}

Test(pool_file, all_open_states_in_the_order_of_their_opening)
{
    carry_state states[ROWS], loaded[ROWS];
    size_t count, bytes, want_bytes;
    open_with_pasts(states);
    /* places that were closed are taken again: the order is no longer that of the places */
    carry_state first = states[1];
    OK(carry_state_close(r.session, &first));
    OK(carry_state_close(r.session, &states[3]));
    OK(carry_state_copy(r.session, states[0], &states[3]));
    OK(carry_state_copy(r.session, states[4], &first));
    float y[COUNT];
    advance(&r, &first, 1, 50, y);
    advance(&r, &states[0], 1, 51, y); /* used last, opened first */
    const carry_state order[ROWS] = {states[0], states[2], states[4],
                                     states[5], states[3], first};
    OK(carry_pool_save(r.session, path, NULL, NULL, 0));
    void *want = save(&r, order, ROWS, &want_bytes), *file = file_read(path, &bytes);
    cr_assert(bytes == want_bytes && memcmp(file, want, bytes) == 0);
    rig fresh = rig_open(&spec, NULL);
    OK(carry_pool_load(fresh.session, path, loaded, NULL, ROWS, &count));
    OK(carry_pool_save(fresh.session, path, NULL, NULL, 0));
    free(file);
    file = file_read(path, &bytes);
    cr_assert(bytes == want_bytes && memcmp(file, want, bytes) == 0,
              "loaded states are not in the order of the file");
    free(file);
    free(want);
    rig_close(&fresh);
}

Test(pool_file, one_state_in_several_rows_and_a_fork_with_its_source)
{
    carry_state states[ROWS], loaded[4];
    open_with_pasts(states);
    OK(carry_state_fork(r.session, states[0], &states[4], 2));
    const carry_state rows[4] = {states[4], states[0], states[0], states[5]};
    size_t count, bytes, want_bytes;
    OK(carry_pool_save(r.session, path, rows, NULL, 4));
    OK(carry_pool_load(r.session, path, loaded, NULL, 4, &count));
    void *a = save(&r, rows, 4, &want_bytes), *b = save(&r, loaded, 4, &bytes);
    cr_assert(bytes == want_bytes && memcmp(a, b, bytes) == 0);
    for (int i = 0; i < 4; i++)
        for (int k = 0; k < i; k++)
            cr_assert_neq(loaded[i].id, loaded[k].id);
    free(a);
    free(b);
}

Test(pool_file, no_states)
{
    carry_state none;
    size_t count = 7;
    OK(carry_pool_save(r.session, path, NULL, NULL, 0));
    OK(carry_pool_load(r.session, path, &none, NULL, 1, &count));
    cr_assert_eq(count, 0);
    OK(carry_pool_save(r.session, path, &none, keys, 0));
    int64_t back[1];
    OK(carry_pool_load(r.session, path, &none, back, 0, &count));
    cr_assert_eq(count, 0);
    cr_assert_eq(open_count(&r), 0);
}

Test(pool_file, how_many_there_are)
{
    carry_state states[ROWS];
    size_t count = 7;
    open_with_pasts(states);
    OK(carry_pool_save(r.session, path, states, keys, ROWS));
    OK(carry_pool_load(r.session, path, NULL, NULL, 0, &count));
    cr_assert_eq(count, ROWS);
    cr_assert_eq(open_count(&r), ROWS, "asking opened states");
    FAILS(CARRY_E_CAPACITY, "6 states are saved there, room for 5",
          carry_pool_load(r.session, path, states, NULL, ROWS - 1, &count));
    cr_assert_eq(count, ROWS, "E_CAPACITY does not say what is needed");
    for (size_t i = 0; i < ROWS - 1; i++)
        cr_assert_eq(states[i].id, 0);
}

Test(pool_file, all_or_none_in_a_small_pool)
{
    carry_state states[ROWS], loaded[ROWS], own[2];
    size_t count;
    open_with_pasts(states);
    OK(carry_pool_save(r.session, path, states, NULL, ROWS));
    rig small =
        rig_open(&spec, &(carry_session_options){.size = sizeof(carry_session_options),
                                                 .max_states = ROWS + 1});
    open_states(&small, own, 2);
    FAILS(CARRY_E_FULL, "6 states are saved there; 7 can be open in the session, and 2",
          carry_pool_load(small.session, path, loaded, NULL, ROWS, &count));
    cr_assert_eq(open_count(&small), 2);
    cr_assert_eq(count, 0);
    for (size_t i = 0; i < ROWS; i++)
        cr_assert_eq(loaded[i].id, 0);
    OK(carry_state_close(small.session, &own[0]));
    OK(carry_pool_load(small.session, path, loaded, NULL, ROWS, &count));
    cr_assert_eq(open_count(&small), ROWS + 1);
    rig_close(&small);
}

Test(pool_file, keys_that_were_not_saved)
{
    carry_state states[ROWS];
    int64_t back[ROWS];
    size_t count;
    open_with_pasts(states);
    OK(carry_pool_save(r.session, path, states, NULL, ROWS));
    FAILS(CARRY_E_MISMATCH, "without keys",
          carry_pool_load(r.session, path, states, back, ROWS, &count));
    cr_assert_eq(open_count(&r), ROWS);
}

Test(pool_file, arguments_are_checked)
{
    carry_state state, stale;
    size_t count;
    open_states(&r, &state, 1);
    stale = state;
    FAILS(CARRY_E_ARGUMENT, "path", carry_pool_save(r.session, NULL, NULL, NULL, 0));
    FAILS(CARRY_E_ARGUMENT, "count is 3",
          carry_pool_save(r.session, path, NULL, NULL, 3));
    FAILS(CARRY_E_ARGUMENT, "keys", carry_pool_save(r.session, path, NULL, keys, 0));
    FAILS(CARRY_E_ARGUMENT, "16777216 states",
          carry_pool_save(r.session, path, &state, NULL, (size_t)1 << 24));
    FAILS(CARRY_E_ARGUMENT, "session", carry_pool_save(NULL, path, NULL, NULL, 0));
    FAILS(CARRY_E_ARGUMENT, "count",
          carry_pool_load(r.session, path, &state, NULL, 1, NULL));
    FAILS(CARRY_E_ARGUMENT, "path",
          carry_pool_load(r.session, NULL, &state, NULL, 1, &count));
    FAILS(CARRY_E_ARGUMENT, "session",
          carry_pool_load(NULL, path, &state, NULL, 1, &count));
    state = stale;
    OK(carry_state_close(r.session, &state));
    FAILS(CARRY_E_STALE, "closed", carry_pool_save(r.session, path, &stale, NULL, 1));
    cr_assert_eq(folder_count(""), 0, "a refused save made a file");
}

/* Without a tensor nothing in the file tells how many states there are, but keys. */
Test(pool_file, a_model_without_memory)
{
    static const model_spec dense = {.features = 2,
                                     .layers = {DENSE_LAYER(2, CY_ACT_TANH)}};
    rig d = rig_open(&dense, NULL);
    carry_state states[2], loaded[2];
    int64_t back[2];
    size_t count;
    open_states(&d, states, 2);
    FAILS(CARRY_E_ARGUMENT, "keeps no state",
          carry_pool_save(d.session, path, states, NULL, 2));
    OK(carry_pool_save(d.session, path, states, keys, 2));
    OK(carry_pool_load(d.session, path, loaded, back, 2, &count));
    cr_assert_eq(count, 2);
    cr_assert_eq(memcmp(back, keys, sizeof back), 0);
    rig_close(&d);
}

/* ---- synchronising -------------------------------------------------------------------------- */

static int failing_fsync; /* the n-th from 1; 0: none */

int __real_fsync(int file);
int __wrap_fsync(int file);

int __wrap_fsync(int file)
{
    if (failing_fsync == 0 || --failing_fsync > 0) return __real_fsync(file);
    errno = EIO;
    return -1;
}

/* ---- files and folders ---------------------------------------------------------------------- */

static carry_state kept[ROWS];
static void *whole;
static size_t whole_bytes;

static void write_the_old_file(void)
{
    open_with_pasts(kept);
    OK(carry_pool_save(r.session, path, kept, keys, ROWS));
    whole = file_read(path, &whole_bytes);
}

static void the_old_file_is_whole(void)
{
    size_t bytes;
    void *file = file_read(path, &bytes);
    cr_assert(file && bytes == whole_bytes && memcmp(file, whole, bytes) == 0,
              "the old file is not as it was");
    free(file);
    cr_assert_eq(folder_count(""), 1, "something is left beside the file");
}

Test(pool_file, a_refused_save_leaves_the_old_file)
{
    write_the_old_file();
    carry_state bad[ROWS];
    memcpy(bad, kept, sizeof bad);
    rig other = rig_open(&spec, NULL);
    open_states(&other, &bad[ROWS - 1], 1);
    FAILS(CARRY_E_FOREIGN, "session", carry_pool_save(r.session, path, bad, NULL, ROWS));
    bad[ROWS - 1].id = 0;
    FAILS(CARRY_E_ARGUMENT, "no state",
          carry_pool_save(r.session, path, bad, NULL, ROWS));
    the_old_file_is_whole();
    rig_close(&other);
    free(whole);
}

/* A disk is full at any byte: a limit to the file's size says the same to the process. */
Test(pool_file, a_full_disk_leaves_the_old_file)
{
    write_the_old_file();
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit before;
    cr_assert_eq(getrlimit(RLIMIT_FSIZE, &before), 0);
    for (size_t room = 0; room < whole_bytes; room += room < 2000 ? 37 : 997) {
        struct rlimit limit = {room, before.rlim_max};
        cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
        carry_status status = carry_pool_save(r.session, path, kept, NULL, 3);
        cr_assert_eq(setrlimit(RLIMIT_FSIZE, &before), 0);
        if (status == CARRY_OK) break; /* three states are less than the old file */
        cr_assert_eq(status, CARRY_E_FILE, "%s", carry_status_name(status));
        cr_assert(strstr(carry_error(), path) && strstr(carry_error(), "File too large"),
                  "%s", carry_error());
        the_old_file_is_whole();
    }
    free(whole);
}

/* The file's own is before the renaming, its folder's behind it. */
Test(pool_file, a_disk_that_does_not_synchronise)
{
    write_the_old_file();
    carry_state turned[ROWS];
    for (size_t i = 0; i < ROWS; i++)
        turned[i] = kept[(i + 1) % ROWS];
    failing_fsync = 1;
    FAILS(CARRY_E_FILE, "pool could not be written: Input/output error",
          carry_pool_save(r.session, path, turned, keys, ROWS));
    the_old_file_is_whole();
    failing_fsync = 2;
    FAILS(CARRY_E_FILE,
          "pool was replaced, but a crash of the machine may undo it: Input/output",
          carry_pool_save(r.session, path, turned, keys, ROWS));
    cr_assert_eq(failing_fsync, 0);
    free(whole);
    whole = file_read(path, &whole_bytes); /* what saving again gives */
    OK(carry_pool_save(r.session, path, turned, keys, ROWS));
    the_old_file_is_whole();
    loads_as(turned);
    free(whole);
}

Test(pool_file, places_that_cannot_be_written)
{
    carry_state states[ROWS];
    char place[PATH_BYTES];
    open_with_pasts(states);
    folder_path(place, "missing/pool");
    FAILS(CARRY_E_FILE, "missing/pool cannot be written: its folder: No such file",
          carry_pool_save(r.session, place, states, NULL, ROWS));
    folder_path(place, "");
    FAILS(CARRY_E_FILE, "is a folder",
          carry_pool_save(r.session, place, states, NULL, ROWS));
    folder_path(place, "new/");
    FAILS(CARRY_E_FILE, "new/ is a folder",
          carry_pool_save(r.session, place, states, NULL, ROWS));
    folder_path(place, ".");
    FAILS(CARRY_E_FILE, "is a folder",
          carry_pool_save(r.session, place, states, NULL, ROWS));
    FAILS(CARRY_E_FILE, "/proc/pool cannot be written: a file beside it",
          carry_pool_save(r.session, "/proc/pool", states, NULL, ROWS));
    FAILS(CARRY_E_FILE, "/dev/null is not a regular file",
          carry_pool_save(r.session, "/dev/null", states, NULL, ROWS));
    folder_path(place, "fifo");
    cr_assert_eq(mkfifo(place, 0600), 0);
    FAILS(CARRY_E_FILE, "not a regular file",
          carry_pool_save(r.session, place, states, NULL, ROWS));
    FAILS(CARRY_E_FILE, "empty", carry_pool_save(r.session, "", states, NULL, ROWS));
    cr_assert_eq(folder_count(""), 1);
}

Test(pool_file, places_that_cannot_be_read)
{
    carry_state states[1];
    char place[PATH_BYTES];
    size_t count;
    FAILS(CARRY_E_FILE, "pool: No such file",
          carry_pool_load(r.session, path, states, NULL, 1, &count));
    folder_path(place, "");
    FAILS(CARRY_E_FILE, "not a regular file",
          carry_pool_load(r.session, place, states, NULL, 1, &count));
    folder_path(place, "fifo");
    cr_assert_eq(mkfifo(place, 0600), 0);
    FAILS(CARRY_E_FILE, "not a regular file",
          carry_pool_load(r.session, place, states, NULL, 1, &count));
    file_write(path, "", 0);
    FAILS(CARRY_E_FORMAT, "0 bytes",
          carry_pool_load(r.session, path, states, NULL, 1, &count));
}

static mode_t mode_of(const char *file)
{
    struct stat facts;
    cr_assert_eq(stat(file, &facts), 0);
    return facts.st_mode & 0777;
}

Test(pool_file, modes_and_links_stay)
{
    carry_state states[ROWS];
    char link[PATH_BYTES];
    open_with_pasts(states);
    umask(027);
    OK(carry_pool_save(r.session, path, states, NULL, ROWS));
    cr_assert_eq(mode_of(path), 0640);
    cr_assert_eq(chmod(path, 0604), 0);
    folder_path(link, "link");
    cr_assert_eq(symlink("pool", link), 0);
    OK(carry_pool_save(r.session, link, states, keys, ROWS));
    cr_assert_eq(mode_of(path), 0604);
    struct stat facts;
    cr_assert(lstat(link, &facts) == 0 && S_ISLNK(facts.st_mode), "the link is replaced");
    loads_as(states);
    cr_assert_eq(unlink(path), 0); /* a link to what is not there yet */
    OK(carry_pool_save(r.session, link, states, keys, ROWS));
    cr_assert(lstat(link, &facts) == 0 && S_ISLNK(facts.st_mode), "the link is replaced");
    loads_as(states);
    cr_assert(unlink(link) == 0 && symlink("link", link) == 0); /* to itself */
    FAILS(CARRY_E_FILE, "Too many levels of symbolic links",
          carry_pool_save(r.session, link, states, keys, ROWS));
    cr_assert(unlink(link) == 0 && symlink("pool", link) == 0);
    cr_assert_eq(chdir(path), -1);
    char *slash = strrchr(path, '/');
    *slash = 0;
    cr_assert_eq(chdir(path), 0);
    *slash = '/';
    OK(carry_pool_save(r.session, "pool", states, NULL,
                       ROWS)); /* no folder in the path */
    cr_assert_eq(chdir("/"), 0);
    cr_assert_eq(folder_count(""), 2);
}

/* A link names the place, whether something is there or not; a chain of them too. */
Test(pool_file, a_link_to_what_is_not_there_yet)
{
    carry_state states[ROWS];
    char link[PATH_BYTES], chain[PATH_BYTES], answer[PATH_BYTES] = {0};
    open_with_pasts(states);
    folder_path(link, "link");
    folder_path(chain, "chain");
    cr_assert_eq(symlink("pool", link), 0);
    cr_assert_eq(symlink(link, chain), 0); /* absolute, then relative */
    OK(carry_pool_save(r.session, chain, states, keys, ROWS));
    cr_assert_eq(readlink(chain, answer, sizeof answer), (ssize_t)strlen(link));
    cr_assert_eq(readlink(link, answer, sizeof answer), 4);
    cr_assert_eq(folder_count(""), 3);
    loads_as(states);
}

Test(pool_file, links_that_lead_nowhere)
{
    carry_state states[ROWS];
    char link[PATH_BYTES], answer[PATH_BYTES] = {0};
    open_with_pasts(states);
    folder_path(link, "link");
    cr_assert_eq(symlink("missing/pool", link), 0);
    FAILS(CARRY_E_FILE, "link cannot be written: its folder: No such file",
          carry_pool_save(r.session, link, states, NULL, ROWS));
    folder_path(link, "ring");
    cr_assert_eq(symlink("ring", link), 0);
    FAILS(CARRY_E_FILE, "ring cannot be written: Too many levels of symbolic links",
          carry_pool_save(r.session, link, states, NULL, ROWS));
    cr_assert_eq(readlink(link, answer, sizeof answer), 4, "the link is replaced");
    cr_assert_eq(folder_count(""), 2);
}

Test(pool_file, what_a_killed_process_left_beside_it_is_harmless)
{
    carry_state states[ROWS];
    char left[PATH_BYTES];
    open_with_pasts(states);
    folder_path(left, "pool.tmp-000000");
    file_write(left, "half a file", 11);
    OK(carry_pool_save(r.session, path, states, keys, ROWS));
    loads_as(states);
    cr_assert_eq(folder_count("pool.tmp-"), 1, "it belongs to somebody");
    folder_remove("pool.tmp-");
}

/* ---- elsewhere ------------------------------------------------------------------------------ */

Test(pool_file, another_model)
{
    carry_state states[ROWS];
    size_t count;
    open_with_pasts(states);
    OK(carry_pool_save(r.session, path, states, NULL, ROWS));
    model_spec wider = spec;
    wider.layers[1].units = 18;
    rig other = rig_open(&wider, NULL);
    FAILS(CARRY_E_MISMATCH, "line 2 of its layers is 'layer1: LSTM 5 -> 17",
          carry_pool_load(other.session, path, states, NULL, ROWS, &count));
    cr_assert(strstr(carry_error(), path), "%s", carry_error());
    FAILS(CARRY_E_MISMATCH, "layer1",
          carry_pool_load(other.session, path, NULL, NULL, 0, &count));
    cr_assert_eq(open_count(&other), 0);
    rig_close(&other);
}

typedef struct elsewhere {
    carry_state states[ROWS];
    float y[COUNT];
} elsewhere;

/* Knows the file and the model, nothing else. */
static void continue_elsewhere(elsewhere *e)
{
    rig fresh = rig_open(&spec, NULL);
    size_t count;
    OK(carry_pool_load(fresh.session, path, e->states, NULL, ROWS, &count));
    advance(&fresh, e->states, ROWS, 99, e->y);
    rig_close(&fresh);
}

static void *continue_in_thread(void *argument)
{
    continue_elsewhere(argument);
    return NULL;
}

Test(pool_file, another_thread_and_another_process)
{
    carry_state states[ROWS];
    elsewhere here, there;
    open_with_pasts(states);
    OK(carry_pool_save(r.session, path, states, NULL, ROWS));
    advance(&r, states, ROWS, 99, here.y);
    pthread_t thread;
    cr_assert_eq(pthread_create(&thread, NULL, continue_in_thread, &there), 0);
    pthread_join(thread, NULL);
    SAME_BITS(here.y, there.y, COUNT);

    FILE *answer = tmpfile();
    pid_t child = fork();
    if (child == 0) {
        elsewhere e;
        continue_elsewhere(&e);
        _exit(fwrite(e.y, sizeof *e.y, COUNT, answer) == COUNT && fflush(answer) == 0
                  ? 0
                  : 4);
    }
    int status;
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the other process: %d",
              status);
    rewind(answer);
    memset(there.y, 0, sizeof there.y);
    cr_assert_eq(fread(there.y, sizeof *there.y, COUNT, answer), COUNT);
    SAME_BITS(here.y, there.y, COUNT);
    fclose(answer);
}

/* More than one block of rows: a million states of a unit, or fewer and wider ones. */
Test(pool_file, very_many_states)
{
    size_t many = on_cuda() ? 9000 : 1000000, count;
    unsigned units = on_cuda() ? 64 : 1;
    model_spec tiny = {.features = 1, .layers = {LSTM_LAYER(units, SEQUENCES)}};
    rig t = rig_open(&tiny, NULL), other = rig_open(&tiny, NULL);
    carry_state *states = calloc(many, sizeof *states);
    carry_state *loaded = calloc(many, sizeof *loaded);
    int64_t *numbers = calloc(many, sizeof *numbers), *back = calloc(many, sizeof *back);
    open_states(&t, states, many);
    float values[64] = {0};
    for (size_t i = 0; i < many; i++) {
        numbers[i] = (int64_t)(many - i);
        values[units - 1] = (float)i;
        if (i % 3) OK(carry_state_write(t.session, states[i], i % 2, values, units));
    }
    OK(carry_pool_save(t.session, path, states, numbers, many));
    OK(carry_pool_load(other.session, path, loaded, back, many, &count));
    cr_assert_eq(count, many);
    cr_assert_eq(memcmp(numbers, back, many * sizeof *back), 0);
    for (size_t i = 0; i < many; i++)
        for (size_t tensor = 0; tensor < 2; tensor++) {
            OK(carry_state_read(other.session, loaded[i], tensor, values, units));
            float wanted = i % 3 && i % 2 == tensor ? (float)i : 0;
            cr_assert(values[units - 1] == wanted && (units == 1 || values[0] == 0),
                      "state %zu, tensor %zu: %g, expected %g", i, tensor,
                      (double)values[units - 1], (double)wanted);
        }
    free(states);
    free(loaded);
    free(numbers);
    free(back);
    rig_close(&t);
    rig_close(&other);
}

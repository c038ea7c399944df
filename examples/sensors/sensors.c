/* Thousands of sensors, each at its own pace and with its own memory, one batcher.
 *
 *     sensors [options] MODEL.carry     -n N  sensors (4096)       -p MS  the fastest one's period (100)
 *                                       -s S  seconds (10)         -w N   worker threads (1)
 *                                       -d DEVICE (auto)
 *
 * One thread waits for two things: a clock (timerfd), upon which sensors that are due submit a reading of 1 to
 * 4 steps, and the batcher (eventfd), upon which answers are collected. It never blocks in the batcher: when the
 * queue is full, or a sensor's earlier readings are still on their way, the reading is put off until the sensor is next
 * due. Periods are spread evenly over two decades.
 *
 * Every second it prints what was answered. At the end everything must add up, and what some sensors measured is
 * run again, alone, in a session of its own: the last answers must be the same to the bit. */
#define _GNU_SOURCE /* getopt, clock_gettime, M_PI */
#include <carry/carry_batcher.h>
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum {
    ROOM = 2,     /* readings of one sensor that may be on their way */
    AGAIN = 32,   /* sensors that are run again */
    SLOTS = 16384 /* of the wheel, one a millisecond; a longer period is cut to them */
};

typedef struct reading {
    struct sensor *sensor;
    uint64_t number;
    void *input;   /* [steps, features], or ids [steps] */
    float *output; /* the model's first, after the last step: [width] */
    carry_result result;
    struct reading *next; /* in the list of answers */
} reading;

typedef struct sensor {
    carry_state state;
    uint32_t index, steps, period_ms;
    uint64_t sent, answered;
    reading readings[ROOM]; /* number n is at n % ROOM */
    struct sensor *next;    /* in its slot of the wheel */
} sensor;

typedef struct totals {
    uint64_t sent, put_off, answered, steps, wrong, slowest_us;
} totals;

static carry_port_info input = {.size = sizeof input}, output = {.size = sizeof output};
static carry_batcher *batcher;
static sensor *wheel[SLOTS];
static totals now;
static int answers_fd;

/* Answers that the workers' threads have given and the loop has not collected. */
static pthread_mutex_t answers_lock = PTHREAD_MUTEX_INITIALIZER;
static reading *first_answer, **end_of_answers = &first_answer;

static void check(carry_status status)
{
    if (status == CARRY_OK) return;
    fprintf(stderr, "sensors: %s\n", carry_error());
    exit(1);
}

static void check_system(long result, const char *what)
{
    if (result >= 0) return;
    fprintf(stderr, "sensors: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void *reserve(size_t bytes)
{
    void *memory = calloc(1, bytes);
    check_system(memory ? 0 : -1, "memory");
    return memory;
}

static uint64_t clock_ms(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000 + (uint64_t)time.tv_nsec / 1000000;
}

static size_t step_width(void)
{
    return input.dtype == CARRY_I32 ? 1 : (size_t)input.width;
}

/* What a sensor measures is decided by its index and the reading's number, so that it can be had again. */
static void measure(const sensor *s, uint64_t number, void *values)
{
    for (size_t i = 0; i < s->steps * step_width(); i++) {
        double step = (double)(number * s->steps + i / step_width());
        double wave = sin(2 * M_PI * step / (10 + s->index % 90) +
                          (double)(s->index + i % step_width()));
        if (input.dtype == CARRY_I32)
            ((int32_t *)values)[i] = (int32_t)((wave + 1) / 2.001 * (double)input.ids);
        else ((float *)values)[i] = (float)wave;
    }
}

static carry_array measured(const sensor *s, void *values)
{
    return (carry_array){.size = sizeof(carry_array),
                         .data = values,
                         .dtype = input.dtype,
                         .bytes = s->steps * step_width() * sizeof(float)};
}

static carry_array answer(float *values)
{
    size_t bytes = (size_t)output.width * sizeof(float);
    return (carry_array){.size = sizeof(carry_array), .data = values, .bytes = bytes};
}

/* On a worker's thread, so it must be short. The eventfd wakes the loop after it. */
static void append_answer(void *user, const carry_result *result)
{
    (void)result; /* the reading has it */
    reading *r = user;
    r->next = NULL;
    pthread_mutex_lock(&answers_lock);
    *end_of_answers = r;
    end_of_answers = &r->next;
    pthread_mutex_unlock(&answers_lock);
}

static void send_reading(sensor *s)
{
    reading *r = &s->readings[s->sent % ROOM];
    carry_status status = CARRY_E_FULL;
    if (s->sent - s->answered < ROOM) {
        r->number = s->sent;
        measure(s, r->number, r->input);
        carry_array out = answer(r->output);
        carry_request request = {.size = sizeof request,
                                 .state = s->state,
                                 .steps = s->steps,
                                 .input = measured(s, r->input),
                                 .outputs = &out,
                                 .output_count = 1,
                                 .mode = CARRY_STEPS_LAST,
                                 .result = &r->result,
                                 .on_done = append_answer,
                                 .user = r,
                                 .event_fd = answers_fd};
        status = carry_batcher_submit(batcher, &request, 0, NULL);
    }
    if (status == CARRY_E_FULL) {
        now.put_off++;
        return;
    }
    check(status);
    s->sent++;
    now.sent++;
}

static void collect_answers(void)
{
    pthread_mutex_lock(&answers_lock);
    reading *r = first_answer;
    first_answer = NULL;
    end_of_answers = &first_answer;
    pthread_mutex_unlock(&answers_lock);
    for (; r; r = r->next) {
        const carry_result *result = &r->result;
        if (result->status != CARRY_OK || r->number != r->sensor->answered) {
            fprintf(stderr, "sensors: reading %llu of sensor %u: %s\n",
                    (unsigned long long)r->number, r->sensor->index,
                    result->status ? result->sentence : "out of order");
            now.wrong++;
        }
        if (result->wait_us + result->run_us > now.slowest_us)
            now.slowest_us = result->wait_us + result->run_us;
        r->sensor->answered++;
        now.answered++;
        now.steps += result->steps;
    }
}

static void enter_wheel(sensor *s, uint64_t due_ms)
{
    s->next = wheel[due_ms % SLOTS];
    wheel[due_ms % SLOTS] = s;
}

static void send_due(uint64_t due_ms)
{
    sensor *s = wheel[due_ms % SLOTS], *next;
    wheel[due_ms % SLOTS] = NULL;
    for (; s; s = next) {
        next = s->next;
        send_reading(s);
        enter_wheel(s, due_ms + s->period_ms);
    }
}

/* Since the last report. */
static void report(double seconds)
{
    static totals before;
    static carry_batcher_info info_before;
    carry_batcher_info info = {.size = sizeof info};
    check(carry_batcher_get_info(batcher, &info));
    uint64_t calls = info.calls - info_before.calls;
    printf("%7.0f readings/s %8.0f steps/s %6.1f rows a call %6llu on their way %6llu "
           "put off, slowest %.1f ms\n",
           (double)(now.answered - before.answered) / seconds,
           (double)(now.steps - before.steps) / seconds,
           calls ? (double)(info.rows - info_before.rows) / (double)calls : 0.0,
           (unsigned long long)(now.sent - now.answered),
           (unsigned long long)(now.put_off - before.put_off),
           (double)now.slowest_us / 1000);
    fflush(stdout);
    now.slowest_us = 0;
    before = now;
    info_before = info;
}

/* The loop: until the time is over and the last answer is in. */
static void feed(uint64_t seconds)
{
    int clock_fd = timerfd_create(CLOCK_MONOTONIC, 0), epoll_fd = epoll_create1(0);
    const struct itimerspec every_ms = {{0, 1000000}, {0, 1000000}};
    check_system(epoll_fd, "epoll");
    check_system(timerfd_settime(clock_fd, 0, &every_ms, NULL), "timerfd");
    for (int i = 0; i < 2; i++) {
        struct epoll_event wanted = {.events = EPOLLIN,
                                     .data.fd = i ? answers_fd : clock_fd};
        check_system(epoll_ctl(epoll_fd, EPOLL_CTL_ADD, wanted.data.fd, &wanted),
                     "epoll");
    }
    /* milliseconds since the beginning, as in the wheel */
    const uint64_t begun_ms = clock_ms(), end_ms = seconds * 1000;
    uint64_t sent_ms = 0, reported_ms = 0;
    while (sent_ms < end_ms || now.answered < now.sent) {
        struct epoll_event event;
        uint64_t number;
        int events = epoll_wait(epoll_fd, &event, 1, -1);
        if (events < 0 && errno == EINTR) continue; /* stopped and continued */
        check_system(events, "epoll");
        check_system(read(event.data.fd, &number, sizeof number), "timerfd or eventfd");
        if (event.data.fd == answers_fd) collect_answers();
        const uint64_t time_ms = clock_ms() - begun_ms;
        for (; sent_ms < time_ms && sent_ms < end_ms; sent_ms++)
            send_due(sent_ms);
        const uint64_t passed_ms = time_ms - reported_ms;
        if (passed_ms < 1000) continue;
        report((double)passed_ms / 1000);
        reported_ms = time_ms;
    }
    close(clock_fd);
    close(epoll_fd);
}

static sensor *open_sensors(uint32_t count, uint32_t fastest_ms, uint32_t most_steps)
{
    sensor *sensors = reserve(count * sizeof *sensors);
    for (uint32_t i = 0; i < count; i++) {
        sensor *s = &sensors[i];
        double period_ms = fastest_ms * pow(100, (double)i / count);
        *s = (sensor){.index = i, .steps = 1 + i % most_steps};
        s->period_ms = period_ms < SLOTS ? (uint32_t)period_ms : SLOTS - 1;
        check(carry_batcher_state_open(batcher, &s->state));
        for (int j = 0; j < ROOM; j++)
            s->readings[j] = (reading){.sensor = s,
                                       .input = reserve(measured(s, NULL).bytes),
                                       .output = reserve(answer(NULL).bytes),
                                       .result = {.size = sizeof(carry_result)}};
        enter_wheel(s, (uint64_t)i * 7919 % s->period_ms);
    }
    return sensors;
}

static void close_sensors(sensor *sensors, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        check(carry_batcher_state_close(batcher, &sensors[i].state));
        for (int j = 0; j < ROOM; j++) {
            free(sensors[i].readings[j].input);
            free(sensors[i].readings[j].output);
        }
    }
    free(sensors);
}

/* One reading after the other. Returns 1 if the last answer is not the one that was given in company. */
static int run_again(carry_session *session, const sensor *s)
{
    carry_state state;
    carry_array in = measured(s, reserve(measured(s, NULL).bytes));
    carry_array out = answer(reserve(answer(NULL).bytes));
    carry_batch batch = {
        .size = sizeof batch, .rows = 1, .states = &state, .max_steps = s->steps};
    batch.inputs = &in;
    batch.outputs = &out;
    batch.input_count = batch.output_count = 1;
    batch.mode = CARRY_STEPS_LAST;
    check(carry_state_open(session, &state));
    for (uint64_t number = 0; number < s->answered; number++) {
        measure(s, number, in.data);
        check(carry_run(session, &batch));
    }
    int differs =
        s->answered &&
        memcmp(out.data, s->readings[(s->answered - 1) % ROOM].output, out.bytes) != 0;
    check(carry_state_close(session, &state));
    free(in.data);
    free(out.data);
    return differs;
}

static int adds_up(carry_model *model, const sensor *sensors, uint32_t count)
{
    carry_batcher_info info = {.size = sizeof info};
    carry_session_options options = {
        .size = sizeof options, .threads = 1, .max_rows = 1, .exact = 1};
    carry_session *alone;
    uint32_t again = count < AGAIN ? count : AGAIN, differ = 0;
    check(carry_batcher_drain(batcher)); /* an answer is told before it is counted */
    check(carry_batcher_get_info(batcher, &info));
    check(carry_session_open(&alone, model, &options));
    for (uint64_t i = 0; i < again; i++)
        differ += (uint32_t)run_again(alone, &sensors[i * count / again]);
    carry_session_close(&alone);
    printf("%llu readings submitted, %llu answered, %llu of them wrong or out of order, "
           "%llu put off, %llu of them by a full queue\n"
           "wait: half up to %llu us, 99 %% up to %llu us\n"
           "%u sensors run again alone: %u differ\n",
           (unsigned long long)info.submitted, (unsigned long long)now.answered,
           (unsigned long long)now.wrong, (unsigned long long)now.put_off,
           (unsigned long long)info.rejected, (unsigned long long)info.wait_us_p50,
           (unsigned long long)info.wait_us_p99, again, differ);
    return now.sent > 0 && info.submitted == now.sent && info.done == now.sent &&
           now.answered == now.sent && !info.failed && !now.wrong && !differ;
}

int main(int argc, char **argv)
{
    long count = 4096, seconds = 10, fastest_ms = 100, workers = 1;
    carry_model_options on = {.size = sizeof on};
    int option;
    while ((option = getopt(argc, argv, "n:s:p:w:d:")) != -1) {
        if (option == 'n') count = atol(optarg);
        else if (option == 's') seconds = atol(optarg);
        else if (option == 'p') fastest_ms = atol(optarg);
        else if (option == 'w') workers = atol(optarg);
        else if (option == 'd') on.device = optarg;
        else return 2;
    }
    if (optind + 1 != argc || count < 1 || count > 1000000 || seconds < 1 ||
        fastest_ms < 1 || workers < 1) {
        fprintf(stderr, "usage: sensors [-n SENSORS] [-s SECONDS] [-p MS] [-w WORKERS] "
                        "[-d DEVICE] MODEL.carry\n");
        return 2;
    }
    carry_model *model;
    carry_model_info info = {.size = sizeof info};
    check(carry_model_open(&model, argv[optind], &on));
    check(carry_model_get_info(model, &info));
    check(carry_model_get_input(model, 0, &input));
    check(carry_model_get_output(model, 0, &output));
    /* exact: the same bits in any company, on CUDA too. A short queue: late readings are worth little. */
    carry_session_options session = {.size = sizeof session, .exact = 1};
    carry_batcher_options options = {.size = sizeof options,
                                     .workers = (uint32_t)workers,
                                     .max_delay_us = 1000,
                                     .queue_limit = 2048,
                                     .session = &session};
    check(carry_batcher_open(&batcher, model, &options));
    check_system(answers_fd = eventfd(0, 0), "eventfd");
    /* a whole-sequence model may take no more than one step in a call */
    sensor *sensors =
        open_sensors((uint32_t)count, (uint32_t)fastest_ms, info.whole_sequence ? 1 : 4);
    printf("%ld sensors, periods %ld ms and more, %s on %s\n", count, fastest_ms,
           info.name, info.device);
    feed((uint64_t)seconds);
    int good = adds_up(model, sensors, (uint32_t)count);
    close_sensors(sensors, (uint32_t)count);
    carry_batcher_close(&batcher);
    carry_model_close(&model);
    close(answers_fd);
    return good ? 0 : 1;
}

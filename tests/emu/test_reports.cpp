/* Mistakes that the emulator must name: each faulty kernel ends with the right sentence, or, where the
 * mistake is in the data, with NaN or in some schedules with a wrong result. Under ASan also what only it
 * can see. */
#include "check.h"
#include "faulty_kernels.h"

#ifdef EMU_ASAN
#include <sanitizer/common_interface_defs.h>
#include <sys/wait.h>
#include <unistd.h>
#endif

namespace
{

const dev::launch_shape one_warp = {dim3(1), dim3(32), 0, 0, 0};

void said(const char *what, cudaError_t error, const char *words)
{
    bool good = error != cudaSuccess && strstr(emu::last_error(), words);
    printf("%s %-42s %.90s\n", good ? "named " : "MISSED", what, emu::last_error());
    check::failures += !good;
}

void seen(const char *what, unsigned times, unsigned at_least, unsigned of)
{
    bool good = times >= at_least;
    printf("%s %-42s in %u of %u schedules\n", good ? "seen  " : "MISSED", what, times,
           of);
    check::failures += !good;
}

#ifdef EMU_ASAN
/* A sanitizer ends the process: in a child, whose report goes nowhere. */
void dies(const char *what, const std::function<void()> &run)
{
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        __sanitizer_set_report_path("stderr");
        if (!freopen("/dev/null", "w", stderr)) _exit(0);
        run();
        _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    bool good = !(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    printf("%s %s\n", good ? "stops " : "MISSED", what);
    check::failures += !good;
}
#endif

} // namespace

int main()
{
    std::vector<int> ints(64);
    std::vector<unsigned> counts(4);
    alignas(16) float in[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    std::vector<float> out(64);
    std::vector<uint32_t> words(64);
    uint64_t global = 0;
    cudaError_t error;

    said("divergent sync_block",
         dev::launch(faulty_divergent_block, one_warp, 0, ints.data()),
         "divergent barrier");
    said("exit before a barrier",
         dev::launch(faulty_exit_before_barrier, one_warp, 0, ints.data(), 20u), "exit");
    said("shuffle by half a warp",
         dev::launch(faulty_half_warp_shuffle, one_warp, 0, ints.data()), "exit");
    said("shuffle from outside the mask",
         dev::launch(faulty_shuffle_outside_mask, one_warp, 0, ints.data()), "mask");
    dev::launch_shape half_warp = {dim3(1), dim3(16), 0, 0, 0};
    said("mma in half a warp", dev::launch(faulty_partial_mma, half_warp, 0, out.data()),
         "whole warp");
    dev::launch_shape two_blocks = {dim3(2), dim3(32), 0, 0, 0};
    said("grid barrier, ordinary launch",
         dev::launch(faulty_grid_barrier, two_blocks, 0, counts.data()),
         "not cooperative");
    emu::options.resident_blocks = 2;
    dev::launch_shape four_blocks = {dim3(4), dim3(1), 0, 0, 0};
    counts[0] = 0;
    said("home-made grid barrier, two blocks fit",
         dev::launch(faulty_homemade_barrier, four_blocks, 0, counts.data()), "livelock");
    emu::options.resident_blocks = 0;
    dev::launch_shape many_blocks = {dim3(33), dim3(32), 0, 0, dev::LAUNCH_COOPERATIVE};
    error = dev::launch(faulty_grid_barrier, many_blocks, 0, counts.data());
    CHECK(error == cudaErrorCooperativeLaunchTooLarge);
    said("cooperative launch of too many", error, "where 32 fit");

    dev::launch_shape one = {dim3(1), dim3(1), 0, 0, 0};
    said("copy_async to a misaligned address",
         dev::launch(faulty_copy_misaligned, one, 0, in), "not aligned");
    said("array without the alignment it needs",
         dev::launch(faulty_copy_unaligned_array, one, 0, in), "not aligned");
    said("copy_async never waited for",
         dev::launch(faulty_copy_never_waited, one, 0, in, out.data()), "never waited");
    said("copy_async from shared memory",
         dev::launch(faulty_copy_from_shared, one, 0, out.data()), "global one is meant");
    CHECK(!dev::launch(faulty_copy_wrong_group, one, 0, in, out.data()));
    seen("wait for the wrong group leaves NaN", out[0] == 1 && isnan(out[1]), 1, 1);
    CHECK(!dev::launch(faulty_uninitialised, one_warp, 0, out.data()));
    seen("uninitialised shared memory is NaN", isnan(out[5]) && out[4] == 1, 1, 1);
    said("more than 48 KiB of static shared memory",
         dev::launch(faulty_large_array, one_warp, 0, out.data()), "49152 allowed");
    dev::launch_shape large = {dim3(1), dim3(32), 50000, 0, 0};
    CHECK(dev::launch(faulty_dynamic_overflow, large, 0, out.data(), 0) ==
          cudaErrorInvalidValue);
    CHECK(!dev::allow_shared(faulty_dynamic_overflow, 50000));
    CHECK(!dev::launch(faulty_dynamic_overflow, large, 0, out.data(), 0));
    CHECK(dev::allow_shared(faulty_dynamic_overflow, 1 << 20) == cudaErrorInvalidValue);
    dev::launch_shape wide = {dim3(1), dim3(1025), 0, 0, 0};
    said("1025 threads a block",
         dev::launch(faulty_global_overflow, wide, 0, out.data(), 0), "limits");

    unsigned wrong = 0;
    for (unsigned seed = 1; seed <= 16; seed++) {
        emu::options.seed = seed;
        unsigned races = emu::races();
        bool good = !dev::launch(faulty_missing_sync_warp, one_warp, 0, ints.data()) &&
                    emu::races() == races;
        for (int i = 0; i < 32; i++)
            good = good && ints[i] == 31 - i;
        wrong += !good;
    }
    seen("missing sync_warp", wrong, 12, 16);

    dev::launch_shape pair = {dim3(2), dim3(32), 0, 2, 0};
    auto mbarrier = [&](FaultyMbarrier mistake) {
        return dev::launch(faulty_mbarrier, pair, 0, mistake, &global, words.data());
    };
    emu::options.seed = 2;
    said("mbarrier never initialised", mbarrier(NEVER_INITIALISED), "never initialised");
    said("mbarrier initialised twice", mbarrier(INITIALISED_TWICE), "twice");
    said("more arrivals than counted", mbarrier(TOO_MANY_ARRIVALS), "more arrivals");
    said("more bytes expected than come", mbarrier(TOO_MANY_BYTES_EXPECTED), "livelock");
    said("store_async and mbarrier apart", mbarrier(STORE_AND_BARRIER_APART),
         "different blocks");
    said("store_async misaligned", mbarrier(STORE_MISALIGNED), "not aligned");
    said("rank outside the cluster", mbarrier(RANK_OUTSIDE), "rank 2");
    said("wait on global memory", mbarrier(WAIT_ON_GLOBAL), "outside the block");
    said("nobody arrives", mbarrier(NOBODY_ARRIVES), "livelock");
    unsigned awaited = 0, early = 0, order = 0;
    for (unsigned seed = 1; seed <= 16; seed++) {
        emu::options.seed = seed;
        awaited += mbarrier(STORE_NOBODY_AWAITS) && strstr(emu::last_error(), "exit");
        early += mbarrier(NO_BARRIER_AFTER_INIT) != cudaSuccess;
        bool good = mbarrier(RELIES_ON_STORE_ORDER) == cudaSuccess;
        for (unsigned i = 0; i < 64; i++)
            good = good && words[i] == 31 - i % 32;
        order += !good;
    }
    seen("store_async to a block that has left", awaited, 1, 16);
    seen("no barrier after mbarrier_init", early, 4, 16);
    seen("reliance on the order of store_async", order, 4, 16);
    dev::launch_shape sixteen = {dim3(16), dim3(32), 0, 16, 0};
    CHECK(dev::launch(faulty_mbarrier, sixteen, 0, 0, &global, words.data()) ==
          cudaErrorInvalidClusterSize);

    emu::options.seed = 1;
    emu::options.policy = emu::Policy::IN_TURN;
    CHECK(!dev::launch(faulty_uninitialised, one_warp, 0, out.data()));
    uint64_t switches = emu::counters.switches;
    CHECK(!dev::launch(faulty_uninitialised, one_warp, 0, out.data()));
    switches = emu::counters.switches - switches;
    uint64_t again = emu::counters.switches;
    CHECK(!dev::launch(faulty_uninitialised, one_warp, 0, out.data()));
    CHECK(emu::counters.switches - again == switches); /* a seed replays */

#ifdef EMU_ASAN
    std::vector<float> *small = new std::vector<float>(32);
    dev::launch_shape dynamic = {dim3(1), dim3(32), 128, 0, 0};
    dies("static shared memory overrun",
         [&] { dev::launch(faulty_shared_overflow, one_warp, 0, out.data(), 1); });
    dies("dynamic shared memory overrun",
         [&] { dev::launch(faulty_dynamic_overflow, dynamic, 0, out.data(), 1); });
    dies("global memory overrun",
         [&] { dev::launch(faulty_global_overflow, one_warp, 0, small->data(), 1); });
    CHECK(!dev::launch(faulty_global_overflow, one_warp, 0, small->data(), 0));
    delete small;
#endif
    return check::summary();
}

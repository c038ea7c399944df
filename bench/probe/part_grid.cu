/* The recurrence kept by a whole grid (grid_step.cu): the floor of a grid-persistent kernel. */
#include "probe.h"

#include "grid_step.h"
#include "probe_expected.h"
#include "step_reference.h"

namespace probe
{

namespace
{

struct Running {
    const grid_step_shape &shape;
    unsigned rows, first = 0;
    Array<uint32_t> weights;
    Array<float> z, c, y;
    Array<uint64_t> board;
    Array<uint32_t> pairs;
    Array<unsigned> flags;

    Running(const grid_step_shape &s, const StepData &data)
        : shape(s), rows(data.rows), weights(grid_step_pack(s, data.recurrent)),
          z(data.z), c(data.c), y(data.z.size() / 4), board((size_t)data.rows * s.units),
          pairs((size_t)data.rows * s.units), flags((data.rows + 7) / 8 * s.units)
    {
        /* Stamp 0 in the first half, nothing that was ever published in the second. */
        std::vector<uint64_t> stamped(board.count, ~(uint64_t)0);
        std::vector<uint32_t> plain(pairs.count, ~(uint32_t)0);
        for (size_t i = 0; i < data.h.size() / 2; i++) {
            plain[i] = bf16_bits(data.h[2 * i]) | (uint32_t)bf16_bits(data.h[2 * i + 1])
                                                      << 16;
            stamped[i] = plain[i];
        }
        board.put(stamped);
        pairs.put(plain);
        flags.put(std::vector<unsigned>(flags.count, 0));
    }
    cudaError_t launch(unsigned steps, unsigned z_steps)
    {
        grid_step_args args = {reinterpret_cast<const uint4 *>(weights.at),
                               reinterpret_cast<const float4 *>(z.at),
                               c.at,
                               y.at,
                               board.at,
                               pairs.at,
                               flags.at,
                               rows,
                               steps,
                               z_steps,
                               first};
        first += steps;
        return dev::launch(shape.kernel,
                           {dim3(shape.units / shape.of_block), dim3(32 * shape.warps),
                            grid_step_shared_bytes(shape, rows), 0,
                            dev::LAUNCH_COOPERATIVE},
                           cuda_stream, args);
    }
};

void step(const grid_step_shape &s, unsigned rows)
{
    const std::string what =
        std::string("grid-wide, ") +
        (s.exchange == EXCHANGE_STAMPS ? "data as flags" : "data and flags") + ", H " +
        std::to_string(s.units) + " B " + std::to_string(rows) + ", " +
        std::to_string(s.units / s.of_block) + " blocks, per step";
    const unsigned z_steps = 16, few = size(8u, 3u), many = 1024;
    if (!tried(dev::allow_shared(s.kernel, (int)grid_step_shared_bytes(s, rows)), what))
        return;
    const StepData data(s.units, rows, z_steps, 51);
    Running running(s, data);
    if (!running.weights.at || !running.board.at || !running.y.at) {
        say_not_measured(what, "no memory for it");
        return;
    }
    if (ran(what, [&] { return running.launch(few, z_steps); }) &&
        found_right(what, wrong_steps(data, few, running.c.get(), running.y.get())))
        time_rounds(what, many, grid_step_expected(s.units, rows),
                    [&] { return running.launch(size(many, few), z_steps); });
}

} // namespace

void part_grid()
{
    for (const grid_step_shape &s : grid_step_shapes()) {
        if ((s.units > 64) != machine.is_gpu) continue; /* the small ones are for tests */
        for (unsigned rows : {1u, 8u, size(16u, 11u), size(64u, 16u)})
            step(s, rows);
    }
    if (!machine.is_gpu)
        say_not_measured("shapes of 512 to 2048 units",
                         "the emulator runs smaller ones of the same kernel");
}

} // namespace probe

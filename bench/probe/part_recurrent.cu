/* The recurrence kept by clusters (cluster_step.cu), in all its shapes: one cluster alone, and all that fit at once. */
#include "probe.h"

#include "cluster_step.h"
#include "probe_expected.h"
#include "step_reference.h"

namespace probe
{

namespace
{

std::string name_of(const cluster_step_shape &s)
{
    return "H " + std::to_string(s.units) + " C " + std::to_string(s.blocks) +
           (s.split > 1 ? " k in " + std::to_string(s.split) : "") +
           (s.push == PUSH_STORES ? ", stores" : ", st.async") +
           (s.scope == SCOPE_BLOCK ? ", acquire cta" : "") +
           (s.resident > 1 ? ", 2 blocks an SM" : "");
}

struct Running {
    Array<uint32_t> weights;
    Array<float> z, h, c, y;
    unsigned rows;

    Running(const cluster_step_shape &s, const StepData &data)
        : weights(cluster_step_pack(s, data.recurrent)), z(data.z), h(data.h), c(data.c),
          y(data.z.size() / 4), rows(data.rows)
    {
    }
    cudaError_t launch(const cluster_step_shape &s, unsigned steps, unsigned z_steps)
    {
        const unsigned clusters = (rows + 8 * s.tiles - 1) / (8 * s.tiles);
        cluster_step_args args = {reinterpret_cast<const uint4 *>(weights.at),
                                  reinterpret_cast<const float4 *>(z.at),
                                  h.at,
                                  c.at,
                                  y.at,
                                  rows,
                                  steps,
                                  z_steps};
        return dev::launch(
            s.kernel,
            {dim3(clusters * s.blocks), dim3(s.threads), s.shared_bytes, s.blocks, 0},
            cuda_stream, args);
    }
};

/* `clusters` clusters of `rows` rows each. */
void step(const cluster_step_shape &s, unsigned clusters, unsigned rows)
{
    const std::string what = name_of(s) + ", " + std::to_string(clusters) +
                             " clusters of " + std::to_string(rows) + " rows, per step";
    const unsigned z_steps = 16, few = size(24u, 5u), many = 1024;
    /* Fewer rows than a cluster has room for is a question of one cluster. */
    const unsigned all = clusters == 1 ? rows : clusters * 8 * s.tiles;
    const StepData data(s.units, all, z_steps, 41);
    Running running(s, data);
    if (!running.weights.at || !running.z.at || !running.y.at) {
        say_not_measured(what, "no memory for it");
        return;
    }
    if (ran(what, [&] { return running.launch(s, few, z_steps); }) &&
        found_right(what, wrong_steps(data, few, running.c.get(), running.y.get())))
        time_rounds(what, many, cluster_step_expected(s.units, s.blocks, rows),
                    [&] { return running.launch(s, size(many, few), z_steps); });
}

unsigned most_at_once(const cluster_step_shape &s)
{
    int clusters = 0;
    dev::launch_shape shape = {dim3(s.blocks * 2 * machine.multiprocessors),
                               dim3(s.threads), s.shared_bytes, s.blocks, 0};
    if (clusters_at_once((const void *)s.kernel, shape, &clusters) || clusters < 1)
        return 1;
    /* One block a multiprocessor, unless the shape is about two. */
    const unsigned want = s.resident * machine.multiprocessors / s.blocks;
    return (unsigned)clusters < want ? (unsigned)clusters : want;
}

} // namespace

void part_recurrent()
{
    if (machine.major < 9) {
        say_not_measured("cluster-local steps", "clusters need compute capability 9.0");
        return;
    }
    for (const cluster_step_shape &s : cluster_step_shapes()) {
        if ((s.units > 64) != machine.is_gpu) continue; /* the small ones are for tests */
        if (!tried(dev::allow_shared(s.kernel, (int)s.shared_bytes), name_of(s)))
            continue;
        if (s.blocks > 8 && !tried(dev::allow_cluster_16(s.kernel), name_of(s))) continue;
        const unsigned rows = 8 * s.tiles;
        step(s, 1, rows);
        if (s.tiles == 1) step(s, 1, 1);
        unsigned most = machine.is_gpu ? most_at_once(s) : 2;
        if (most > 1) step(s, most, rows);
    }
    if (!machine.is_gpu)
        say_not_measured("shapes of 128 to 640 units",
                         "the emulator runs smaller ones of the same kernel");
}

} // namespace probe

/* Where threads meet: barriers, warp operations, mbarriers' bookkeeping, asynchronous copies and
 * stores, shared memory. Compiled without TSan; the tokens tell it what a barrier orders. */
#include "machine.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#ifdef EMU_ASAN
#include <sanitizer/asan_interface.h>
#endif

namespace emu
{
namespace
{

std::vector<Site> sites;

bool same_place(const Site &a, const Site &b)
{
    return a.line == b.line && a.kind == b.kind &&
           (a.file == b.file || (a.file && b.file && !strcmp(a.file, b.file)));
}

enum class Order { NONE, RELEASE_ACQUIRE };

/* Waits until `expected` threads have come; all of them from the same place of the source. */
void meet(Meeting &meeting, unsigned expected, const Site &site, Order order)
{
    if (meeting.arrived == 0) meeting.site = site;
    else if (!same_place(meeting.site, site))
        fail("divergent barrier: thread %u of block %u is in %s at %s:%d, others in %s "
             "at %s:%d",
             current->index, current->block->index, kind_name(site.kind), site.file,
             site.line, kind_name(meeting.site.kind), meeting.site.file,
             meeting.site.line);
    char *token = &meeting.token[meeting.round & 1];
    if (order == Order::RELEASE_ACQUIRE) EMU_RELEASE(token);
    if (++meeting.arrived == expected) {
        meeting.arrived = 0;
        meeting.round++;
        for (Thread *thread : meeting.waiting)
            ready(thread);
        meeting.waiting.clear();
        progress();
        yield(); /* who comes last is not first to go on */
    } else {
        meeting.waiting.push_back(current);
        pause(site);
    }
    if (order == Order::RELEASE_ACQUIRE) EMU_ACQUIRE(token);
}

const Block *block_of(const void *address)
{
    const unsigned char *a = static_cast<const unsigned char *>(address);
    for (const Block &block : machine->blocks)
        if (block.shared && a >= block.shared && a < block.shared + machine->shared_bytes)
            return &block;
    return nullptr;
}

unsigned first_of_cluster()
{
    unsigned cluster = machine->shape.cluster;
    return current->block->index / cluster * cluster;
}

} // namespace

const char *kind_name(Kind kind)
{
    static const char *const names[] = {
#define EMU_KIND_NAME(id, text) text,
        EMU_KIND_LIST(EMU_KIND_NAME)
#undef EMU_KIND_NAME
    };
    return names[kind];
}

bool droppable(Kind kind)
{
    switch (kind) {
    case SYNC_BLOCK:
    case SYNC_WARP:
    case SYNC_NAMED:
    case SYNC_CLUSTER:
    case COPY_WAIT:
    case MBARRIER_ARRIVE:
    case MBARRIER_WAIT:
    case STORE_ASYNC:
        return true;
    default:
        return false;
    }
}

size_t sites_count()
{
    return sites.size();
}

Site site_at(size_t index)
{
    return sites[index];
}

void sites_clear()
{
    sites.clear();
}

bool visit(const Site &site)
{
    Inside inside;
    bool known = false;
    for (const Site &s : sites)
        if (same_place(s, site)) {
            known = true;
            break;
        }
    if (!known) sites.push_back(site);
    return !same_place(options.drop, site);
}

unsigned lane()
{
    return current->index % 32;
}

unsigned cluster_rank()
{
    return current->block->index % machine->shape.cluster;
}

unsigned cluster_size()
{
    return machine->shape.cluster;
}

bool coin()
{
    return draw() & 1;
}

bool cooperative()
{
    return machine->shape.flags & GRID_COOPERATIVE;
}

void sync_block(const Site &site)
{
    Inside inside;
    if (!visit(site)) return;
    Block *block = current->block;
    if (block->live != block->thread_count)
        fail("sync_block at %s:%d after %u of %u threads of block %u have exited",
             site.file, site.line, block->thread_count - block->live, block->thread_count,
             block->index);
    meet(block->all, block->live, site, Order::RELEASE_ACQUIRE);
}

void sync_named(unsigned id, unsigned threads, const Site &site)
{
    Inside inside;
    if (!visit(site)) return;
    if (id == 0 || id > 15 || threads == 0 || threads % 32 ||
        threads > current->block->thread_count)
        fail("sync_named(%u, %u) at %s:%d in a block of %u threads", id, threads,
             site.file, site.line, current->block->thread_count);
    std::unique_ptr<Meeting[]> &named = current->block->named;
    if (!named) named.reset(new Meeting[16]);
    meet(named[id], threads, site, Order::RELEASE_ACQUIRE);
}

void sync_cluster(const Site &site)
{
    Inside inside;
    if (!visit(site)) return;
    unsigned cluster = machine->shape.cluster, first = first_of_cluster();
    for (unsigned i = 0; i < cluster; i++) {
        const Block &block = machine->blocks[first + i];
        if (block.live != current->block->thread_count)
            fail("sync_cluster at %s:%d after threads of block %u have exited", site.file,
                 site.line, first + i);
    }
    meet(machine->clusters[first / cluster], cluster * current->block->thread_count, site,
         Order::RELEASE_ACQUIRE);
}

static WarpMeeting *warp_meeting(unsigned mask, const Site &site)
{
    Warp &warp = *current->warp;
    mask &= warp.members; /* all lanes of a last, short warp */
    if (!(mask >> lane() & 1))
        fail("%s at %s:%d: lane %u is not in its own mask %08x", kind_name(site.kind),
             site.file, site.line, lane(), mask);
    if (mask & warp.exited)
        fail("%s at %s:%d: mask %08x names lanes that have exited, %08x",
             kind_name(site.kind), site.file, site.line, mask, mask & warp.exited);
    if ((site.kind == MMA || site.kind == LOAD_MATRIX || site.kind == MOVE_MATRIX) &&
        mask != ~0u)
        fail("%s at %s:%d needs a whole warp, and this one has lanes %08x",
             kind_name(site.kind), site.file, site.line, mask);
    WarpMeeting *found = nullptr;
    for (WarpMeeting *meeting : warp.meetings) {
        if (meeting->mask == mask) found = meeting;
        else if (meeting->arrived && meeting->mask & mask)
            fail("divergent warp: %s at %s:%d with mask %08x, others wait in %s at %s:%d "
                 "with "
                 "mask %08x",
                 kind_name(site.kind), site.file, site.line, mask,
                 kind_name(meeting->site.kind), meeting->site.file, meeting->site.line,
                 meeting->mask);
    }
    if (!found) {
        found = new WarpMeeting;
        found->mask = mask;
        warp.meetings.push_back(found);
    }
    return found;
}

void sync_warp(unsigned mask, const Site &site)
{
    Inside inside;
    if (!visit(site)) return;
    WarpMeeting *meeting = warp_meeting(mask, site);
    meet(*meeting, (unsigned)__builtin_popcount(meeting->mask), site,
         Order::RELEASE_ACQUIRE);
}

const unsigned char *warp_exchange(unsigned mask, const void *give, unsigned bytes,
                                   const Site &site)
{
    Inside inside;
    visit(site);
    WarpMeeting *meeting = warp_meeting(mask, site);
    unsigned char *given = meeting->given[meeting->round & 1];
    memcpy(given + lane() * 64, give, bytes);
    meet(*meeting, (unsigned)__builtin_popcount(meeting->mask), site, Order::NONE);
    return given;
}

void *shared_dynamic(size_t align)
{
    if (align > 1024) fail("dynamic shared memory aligned to %zu", align);
    Inside inside;
    return shared_of(*current->block);
}

void *shared_static(const void *key, size_t bytes, size_t align, Placing placing)
{
    Inside inside;
    const SharedArray *array = nullptr;
    for (const SharedArray &a : machine->arrays)
        if (a.key == key) array = &a;
    if (!array) {
        if (align > 1024) fail("a shared array aligned to %zu", align);
        size_t unit = align < 128 ? 128 : align; /* with a gap that ASan guards */
        size_t offset = (machine->shared_top + 32 + unit - 1) / unit * unit;
        if (placing == Placing::EXACT && align < 16) offset += align;
        size_t used = bytes;
        for (const SharedArray &a : machine->arrays)
            used += a.bytes;
        if (used > 48 << 10)
            fail("%zu bytes of static shared memory, 49152 allowed", used);
        if (used + machine->shape.dynamic_bytes > options.shared_limit_bytes)
            fail("%zu bytes of shared memory, the device has %zu",
                 used + machine->shape.dynamic_bytes, options.shared_limit_bytes);
        if (offset + bytes + 32 > machine->shared_bytes)
            fail("more shared arrays than the emulator has room for");
        machine->arrays.push_back({key, offset, bytes});
        machine->shared_top = offset + bytes;
        array = &machine->arrays.back();
#ifdef EMU_ASAN
        for (const Block &block : machine->blocks)
            if (block.shared)
                __asan_unpoison_memory_region(block.shared + array->offset, bytes);
#endif
    }
    return shared_of(*current->block) + array->offset;
}

void check_shared(const void *address, size_t bytes, size_t align, const Site &site)
{
    const unsigned char *a = static_cast<const unsigned char *>(address);
    const unsigned char *shared = current->block->shared;
    if (a < shared || a + bytes > shared + machine->shared_top)
        fail("%s at %s:%d: an address outside the block's shared memory",
             kind_name(site.kind), site.file, site.line);
    if ((uintptr_t)a % align)
        fail("%s at %s:%d: a shared address that is not aligned to %zu bytes",
             kind_name(site.kind), site.file, site.line, align);
}

void check_global(const void *address, size_t align, const Site &site)
{
    if ((uintptr_t)address % align)
        fail("%s at %s:%d: a global address that is not aligned to %zu bytes",
             kind_name(site.kind), site.file, site.line, align);
    if (block_of(address))
        fail("%s at %s:%d: a shared address where a global one is meant",
             kind_name(site.kind), site.file, site.line);
}

void copy_push(const Copy &copy)
{
    Inside inside;
    current->copies.push_back(copy);
    current->copies.back().group = current->copy_group;
}

void copy_commit()
{
    current->copy_group++;
}

static bool copy_due(unsigned pending)
{
    return !current->copies.empty() &&
           current->copies.front().group + pending < current->copy_group;
}

bool copy_pop(unsigned pending, Copy *copy)
{
    Inside inside;
    if (!copy_due(pending)) return false;
    *copy = current->copies.front();
    current->copies.erase(current->copies.begin());
    return true;
}

void copy_forget(unsigned pending)
{
    Inside inside;
    while (copy_due(pending))
        current->copies.erase(current->copies.begin());
}

ClusterAddress cluster_map(const void *address, unsigned rank, const Site &site)
{
    check_shared(address, 1, 1, site);
    if (rank >= machine->shape.cluster)
        fail("%s at %s:%d: rank %u in a cluster of %u", kind_name(site.kind), site.file,
             site.line, rank, machine->shape.cluster);
    size_t offset =
        (size_t)(static_cast<const unsigned char *>(address) - current->block->shared);
    return ClusterAddress{rank, (uint32_t)offset};
}

unsigned cluster_block(ClusterAddress address)
{
    return first_of_cluster() + address.rank;
}

void *cluster_resolve(ClusterAddress address, size_t bytes, size_t align,
                      const Site &site)
{
    Block &block = machine->blocks[cluster_block(address)];
    if (!block.live)
        fail("%s at %s:%d: block %u does not run", kind_name(site.kind), site.file,
             site.line, block.index);
    if (address.offset + bytes > machine->shared_top)
        fail("%s at %s:%d: an address outside the cluster's shared memory",
             kind_name(site.kind), site.file, site.line);
    if (address.offset % align)
        fail("%s at %s:%d: a shared address that is not aligned to %zu bytes",
             kind_name(site.kind), site.file, site.line, align);
    return shared_of(block) + address.offset;
}

void mbarrier_born(const void *barrier, const Site &site)
{
    Inside inside;
    check_shared(barrier, 8, 8, site);
    if (mbarrier_known(barrier))
        fail("an mbarrier is initialised twice, at %s:%d", site.file, site.line);
    current->block->mbarriers.push_back(
        (uint32_t)(static_cast<const unsigned char *>(barrier) - current->block->shared));
}

bool mbarrier_known(const void *barrier)
{
    const Block *block = block_of(barrier);
    if (!block) return false;
    for (uint32_t offset : block->mbarriers)
        if (block->shared + offset == barrier) return true;
    return false;
}

void async_push(const AsyncStore &store)
{
    Inside inside;
    machine->stores.push_back(new AsyncStore(store));
    EMU_RELEASE(machine->stores.back());
    progress();
}

} // namespace emu

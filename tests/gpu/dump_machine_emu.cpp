/* The emulator behind the fake runtime, as the machine of the dump (dump_cases.h). */
#include "dump_cases.h"
#include "emu.h"
#include "fake.h"

namespace dump
{

bool machine_begin(unsigned schedule)
{
    fake::reset(fake::Device(), schedule);
    return true;
}

int machine_architecture()
{
    return fake::Device().major * 10 + fake::Device().minor;
}

std::string machine_name()
{
    return "emulator";
}

size_t machine_numerics_count()
{
    return 2;
}

const char *machine_numerics(size_t index)
{
    return index ? "truncating" : "exact";
}

void machine_use_numerics(size_t index)
{
    emu::options.numerics = index ? emu::Numerics::TRUNCATING : emu::Numerics::EXACT;
}

} // namespace dump

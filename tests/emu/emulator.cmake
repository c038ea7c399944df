# The CUDA kernels on the CPU: the emulator that runs them, the fake runtime, and what of both goes into the
# library (CARRY_CUDA=emulate). Included from the root, so that the sources' properties hold for src/ and tests/.
set(emu ${CMAKE_CURRENT_LIST_DIR})

add_library(carry_emu_common INTERFACE)
target_include_directories(carry_emu_common INTERFACE ${emu} ${PROJECT_SOURCE_DIR})
target_include_directories(carry_emu_common SYSTEM INTERFACE ${CARRY_CUDA_INCLUDES})
target_compile_features(carry_emu_common INTERFACE cxx_std_17)
target_compile_options(carry_emu_common INTERFACE -Wno-unknown-pragmas -fno-strict-aliasing
                       -fvisibility=hidden $<$<CXX_COMPILER_ID:GNU>:-fno-gnu-unique>)
if(NOT CARRY_SANITIZE) # ten times faster, and what is debugged here is the rest of carry
    target_compile_options(carry_emu_common INTERFACE $<$<CONFIG:Debug>:-O2>)
endif()
if(CARRY_SANITIZE MATCHES address)
    target_compile_definitions(carry_emu_common INTERFACE EMU_ASAN)
    # Looking for uses after return gives every fiber a second stack, which took nine tenths of the time.
    target_compile_options(carry_emu_common INTERFACE
                           $<$<CXX_COMPILER_ID:GNU>:--param=asan-use-after-return=0>
                           $<$<CXX_COMPILER_ID:Clang>:-fsanitize-address-use-after-return=never>)
elseif(CARRY_SANITIZE MATCHES thread)
    target_compile_definitions(carry_emu_common INTERFACE EMU_TSAN)
endif()

# Kernels are C++ here, with a possible switch at every basic block. TSan needs no such switches: it sees a
# race in whichever order.
function(emu_kernel_sources)
    set(flags -xc++)
    if(NOT CARRY_SANITIZE)
        list(APPEND flags -fsanitize-coverage=trace-pc)
    endif()
    set_source_files_properties(${ARGN} PROPERTIES LANGUAGE CXX COMPILE_OPTIONS "${flags}")
endfunction()

# The scheduler and the fake are compiled without TSan and without preemption points.
add_library(carry_emu_scheduler OBJECT ${emu}/fiber.cpp ${emu}/schedule.cpp ${emu}/sync.cpp)
add_library(carry_emu_fake_runtime OBJECT ${emu}/fake_cublas.cpp ${emu}/fake_device.cpp
            ${emu}/fake_graph.cpp ${emu}/fake_kernel.cpp ${emu}/fake_memory.cpp ${emu}/fake_product.cpp
            ${emu}/fake_state.cpp ${emu}/fake_stream.cpp)
if(NOT CARRY_SANITIZE) # products take most of an emulated run
    set_source_files_properties(${emu}/fake_product.cpp PROPERTIES COMPILE_OPTIONS -O3)
endif()
emu_kernel_sources(${CARRY_CUDA_KERNELS})
add_library(carry_emu_kernels OBJECT ${CARRY_CUDA_KERNELS})
foreach(part carry_emu_scheduler carry_emu_fake_runtime carry_emu_kernels)
    target_link_libraries(${part} PUBLIC carry_emu_common)
    if(CARRY_SANITIZE MATCHES thread AND NOT part STREQUAL carry_emu_kernels)
        target_compile_options(${part} PRIVATE -fno-sanitize=thread)
    endif()
endforeach()

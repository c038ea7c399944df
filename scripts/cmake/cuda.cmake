# Compiling .cu files for GPUs. CARRY_NVCC is nvcc, CARRY_CUDA_KNOWN the architectures of CARRY_CUDA_ARCHITECTURES that
# it knows. ONLY, in each function here, is for a file whose instructions one architecture has and no other, as wgmma:
# ONLY 90a. It is compiled for that alone, whatever CARRY_CUDA_ARCHITECTURES says; its kernels are absent from every
# other image, and a launch elsewhere fails with cudaErrorNoKernelImageForDevice.

# cy_cuda_gencode(RESULT ARCHITECTURES...): nvcc's options for machine code of each, and PTX of those without a letter,
# which no later device runs.
function(cy_cuda_gencode result)
    set(options)
    foreach(architecture ${ARGN})
        set(code sm_${architecture})
        if(architecture MATCHES "^[0-9]+$")
            string(APPEND code ,compute_${architecture})
        endif()
        list(APPEND options -gencode arch=compute_${architecture},code=[${code}])
    endforeach()
    set(${result} ${options} PARENT_SCOPE)
endfunction()

# cy_cuda_cubins(NAME SOURCES... [ONLY ARCHITECTURES...]): target NAME, part of `all`: machine code of each file
# for each architecture, without a warning or a spill, in cubin/, where the test cuda_instructions looks at it.
function(cy_cuda_cubins name)
    cmake_parse_arguments(ARG "" "" "ONLY" ${ARGN})
    set(architectures ${CARRY_CUDA_KNOWN})
    if(ARG_ONLY)
        set(architectures ${ARG_ONLY})
    endif()
    set(script ${PROJECT_SOURCE_DIR}/kernels/cuda/cubin.sh)
    set(folder ${PROJECT_BINARY_DIR}/cubin)
    file(MAKE_DIRECTORY ${folder})
    set(cubins)
    foreach(source ${ARG_UNPARSED_ARGUMENTS})
        cmake_path(GET source STEM stem)
        foreach(architecture ${architectures})
            set(cubin ${folder}/${stem}.${architecture}.cubin)
            add_custom_command(OUTPUT ${cubin}
                COMMAND ${script} ${CARRY_NVCC} ${source} ${architecture} ${cubin} -I${PROJECT_SOURCE_DIR}
                DEPENDS ${source} ${script} DEPFILE ${cubin}.d
                COMMENT "nvcc sm_${architecture} ${stem}.cu" VERBATIM)
            list(APPEND cubins ${cubin})
        endforeach()
    endforeach()
    add_custom_target(${name} ALL DEPENDS ${cubins})
endfunction()

# cy_add_cuda(NAME SOURCES... [ONLY ARCHITECTURES...]): kernels. Where nvcc is, NAME_cubins; with CARRY_CUDA=ON the
# object library NAME, with PTX of the newest architecture besides.
function(cy_add_cuda name)
    cmake_parse_arguments(ARG "" "" "ONLY" ${ARGN})
    if(CARRY_CUDA_CUBINS)
        cy_cuda_cubins(${name}_cubins ${ARG_UNPARSED_ARGUMENTS} ONLY ${ARG_ONLY})
    endif()
    if(NOT CARRY_CUDA STREQUAL ON)
        return()
    endif()
    if(ARG_ONLY)
        list(TRANSFORM ARG_ONLY APPEND -real OUTPUT_VARIABLE architectures)
    else()
        list(TRANSFORM CARRY_CUDA_KNOWN APPEND -real OUTPUT_VARIABLE architectures)
        list(GET CARRY_CUDA_KNOWN -1 newest)
        list(APPEND architectures ${newest}-virtual)
    endif()
    add_library(${name} OBJECT ${ARG_UNPARSED_ARGUMENTS})
    target_include_directories(${name} PUBLIC ${PROJECT_SOURCE_DIR})
    set_target_properties(${name} PROPERTIES POSITION_INDEPENDENT_CODE ON CUDA_STANDARD 17
                          CUDA_VISIBILITY_PRESET hidden CUDA_ARCHITECTURES "${architectures}")
    target_compile_options(${name} PRIVATE -fmad=false -Werror all-warnings)
endfunction()

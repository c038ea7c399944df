# Not what CMake found for clang: the linker of LLVM 14 has no --force-group-allocation.
find_program(CARRY_LD ld REQUIRED)
find_program(CARRY_OBJCOPY objcopy REQUIRED)

# carry_library(NAME EXPORT_NAME PARTS object-libraries... NEEDS libraries...)
#
# Makes lib<NAME>.so (target NAME) and lib<NAME>.a (target NAME_static) of the same objects. Both offer
# exactly what the headers declare CARRY_API: the shared one by a symbol map, the static one because its
# objects are joined into one whose other symbols are then made local. C++ puts functions into groups of
# which a linker keeps one of a name; here they stay, since local names cannot refer to another's. So libcarry.a and
# libcarry_import.a, which both hold base/ and graph/, can be linked into one program.
function(carry_library name export_name)
    cmake_parse_arguments(ARG "" "" "PARTS;NEEDS" ${ARGN})
    set(objects)
    foreach(part ${ARG_PARTS})
        list(APPEND objects $<TARGET_OBJECTS:${part}>)
    endforeach()
    set(map ${PROJECT_SOURCE_DIR}/src/carry.map)

    add_library(${name} SHARED ${objects})
    set_target_properties(${name} PROPERTIES
        VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR}
        EXPORT_NAME ${export_name} LINKER_LANGUAGE C LINK_DEPENDS ${map})
    target_link_options(${name} PRIVATE -Wl,--version-script=${map} -Wl,--as-needed)
    if(NOT CARRY_SANITIZE) # clang leaves a sanitizer's own functions to the program
        target_link_options(${name} PRIVATE -Wl,-z,defs)
    endif()

    set(joined ${CMAKE_CURRENT_BINARY_DIR}/${name}_joined.o)
    set(local ${CMAKE_CURRENT_BINARY_DIR}/${name}_local.o)
    add_custom_command(OUTPUT ${local}
        COMMAND ${CARRY_LD} -r --force-group-allocation -o ${joined} ${objects}
        COMMAND ${CARRY_OBJCOPY} --localize-hidden --wildcard --keep-global-symbol=carry_* ${joined} ${local}
        DEPENDS ${objects}
        COMMENT "Joining the objects of lib${name}.a"
        COMMAND_EXPAND_LISTS VERBATIM)
    add_library(${name}_static STATIC ${local})
    set_source_files_properties(${local} PROPERTIES EXTERNAL_OBJECT ON GENERATED ON)
    set_target_properties(${name}_static PROPERTIES
        OUTPUT_NAME ${name} EXPORT_NAME ${export_name}_static LINKER_LANGUAGE C)

    foreach(library ${name} ${name}_static)
        target_link_libraries(${library} PRIVATE ${ARG_NEEDS})
        target_include_directories(${library} INTERFACE
            $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>
            $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
        add_library(carry::${export_name} ALIAS ${name})
        set(export_name ${export_name}_static)
    endforeach()
endfunction()

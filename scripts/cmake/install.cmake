# cmake --install: headers, libraries (shared and static), the command, carry.pc and carry-import.pc for
# pkg-config, and a find_package(carry) configuration.
include(CMakePackageConfigHelpers)
set(config_dir ${CMAKE_INSTALL_LIBDIR}/cmake/carry)
set(pc_dir ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

install(DIRECTORY include/carry DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")
install(TARGETS carry carry_static carry_import carry_import_static EXPORT carry-targets
        LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
        ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
if(TARGET carry_cli)
    # The command finds its libraries wherever the tree is moved to.
    file(RELATIVE_PATH to_libraries ${CMAKE_INSTALL_FULL_BINDIR} ${CMAKE_INSTALL_FULL_LIBDIR})
    set_target_properties(carry_cli PROPERTIES INSTALL_RPATH "$ORIGIN/${to_libraries}")
    install(TARGETS carry_cli RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()
install(FILES LICENSE docs/licences.md DESTINATION ${CMAKE_INSTALL_DOCDIR})

# What a static link needs beside carry itself. The CUDA backend holds C++. The parsers stand as flags and not as required packages:
# `pkg-config --static` would go on to what they were themselves made with, and Debian's libzip names
# libraries there whose development packages it does not bring.
set(runtime_libs)
if(CARRY_CUDA STREQUAL ON)
    set(runtime_libs "-L${CUDAToolkit_LIBRARY_DIR} -lcudart_static -lcublas -lrt -ldl -lstdc++")
elseif(CARRY_CUDA_EMULATED)
    set(runtime_libs "-lstdc++")
endif()
set(import_libs)
set(config_packages JANSSON=jansson)
if(HDF5_FOUND)
    list(APPEND import_libs ${HDF5_LDFLAGS})
    list(APPEND config_packages HDF5=hdf5)
endif()
if(LIBZIP_FOUND)
    list(APPEND import_libs ${LIBZIP_LDFLAGS})
    list(APPEND config_packages LIBZIP=libzip)
endif()
list(JOIN import_libs " " import_libs)

# Paths in the .pc files are relative to the file, so that the installed tree can be moved.
file(RELATIVE_PATH to_prefix ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_PREFIX})
string(REGEX REPLACE "/$" "" to_prefix "${to_prefix}")
file(RELATIVE_PATH pc_libdir ${CMAKE_INSTALL_PREFIX} ${CMAKE_INSTALL_FULL_LIBDIR})
file(RELATIVE_PATH pc_includedir ${CMAKE_INSTALL_PREFIX} ${CMAKE_INSTALL_FULL_INCLUDEDIR})
foreach(pc carry carry-import)
    configure_file(scripts/cmake/${pc}.pc.in ${PROJECT_BINARY_DIR}/${pc}.pc @ONLY)
    install(FILES ${PROJECT_BINARY_DIR}/${pc}.pc DESTINATION ${pc_dir})
endforeach()

configure_package_config_file(scripts/cmake/carry-config.cmake.in
    ${PROJECT_BINARY_DIR}/carry-config.cmake INSTALL_DESTINATION ${config_dir}
    NO_SET_AND_CHECK_MACRO)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/carry-config-version.cmake
    COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/carry-config.cmake
              ${PROJECT_BINARY_DIR}/carry-config-version.cmake DESTINATION ${config_dir})
install(EXPORT carry-targets NAMESPACE carry:: DESTINATION ${config_dir})

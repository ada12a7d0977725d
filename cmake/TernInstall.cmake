# cmake --install: programs, static libraries, headers under include/tern, and the package that
# find_package(tern COMPONENTS ...) reads. Each component can be installed alone: cmake --install BUILD --component updates.
include_guard()
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(TERN_PACKAGE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/tern)

# tern_install(COMPONENT folder...): these folders' libraries, as tern::FOLDER with "/" as "_", and their headers.
function(tern_install component)
  foreach(folder IN LISTS ARGN)
    string(REPLACE "/" "_" name ${folder})
    install(TARGETS tern_${name} EXPORT tern-${component}
            ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT ${component})
    file(GLOB_RECURSE headers CONFIGURE_DEPENDS RELATIVE ${PROJECT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/${folder}/*.h)
    list(FILTER headers EXCLUDE REGEX "-inl\\.h$|/daemon/")
    foreach(header IN LISTS headers)
      get_filename_component(directory ${header} DIRECTORY)
      # A library further down is installed by its own name.
      if(NOT directory STREQUAL folder AND EXISTS ${PROJECT_SOURCE_DIR}/${directory}/CMakeLists.txt)
        continue()
      endif()
      install(FILES ${PROJECT_SOURCE_DIR}/${header} DESTINATION include/tern/${directory} COMPONENT ${component})
    endforeach()
  endforeach()
  install(EXPORT tern-${component} NAMESPACE tern:: FILE tern-${component}-targets.cmake
          DESTINATION ${TERN_PACKAGE_DIR} COMPONENT ${component})
endfunction()

tern_install(updates base compression/updates)
tern_install(protocol proto proto/net config)
tern_install(coordinator base/sqlite coordinator/journal coordinator)
tern_install(client client)
if(TERN_WITH_TORCH)
  tern_install(learning learning)
endif()
foreach(program tern tern-torch tern-coordinator tern-client)
  if(TARGET ${program})
    install(TARGETS ${program} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT programs)
  endif()
endforeach()

# Every component needs these two, so they go with `updates`, which every component needs.
configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/tern-config.cmake.in ${PROJECT_BINARY_DIR}/tern-config.cmake
                              INSTALL_DESTINATION ${TERN_PACKAGE_DIR} NO_SET_AND_CHECK_MACRO)
# 0.x: a minor version may break callers.
set(compatibility SameMajorVersion)
if(PROJECT_VERSION_MAJOR EQUAL 0)
  set(compatibility SameMinorVersion)
endif()
write_basic_package_version_file(${PROJECT_BINARY_DIR}/tern-config-version.cmake COMPATIBILITY ${compatibility})
install(FILES ${PROJECT_BINARY_DIR}/tern-config.cmake ${PROJECT_BINARY_DIR}/tern-config-version.cmake
        DESTINATION ${TERN_PACKAGE_DIR} COMPONENT updates)

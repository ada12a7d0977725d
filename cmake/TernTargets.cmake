# One helper for every library of the tree. It holds the layer table of docs/architecture.md and stops configure when a
# folder asks for a dependency that the table does not allow.
include_guard()

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
# Who chose no build type gets Release. Presets with flags of their own say "None": a type that adds no flags to them, where an
# empty one would end up here and add -O3 -DNDEBUG.
if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Build type" FORCE)
endif()

find_program(TERN_CCACHE ccache)
if(TERN_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${TERN_CCACHE})
endif()
# Files with torch headers take 1.1 GB each: never more than two compilers at once.
set_property(GLOBAL PROPERTY JOB_POOLS torch_pool=2)

# What each folder may use; what is not listed is refused. tools/check_layers greps the includes for the same table.
set(TERN_LAYERS_base "")
set(TERN_LAYERS_base_sqlite base)
set(TERN_LAYERS_compression_updates base)
set(TERN_LAYERS_proto base)
set(TERN_LAYERS_proto_net base proto)
set(TERN_LAYERS_config base compression_updates proto)
set(TERN_LAYERS_learning base proto config)
set(TERN_LAYERS_client base compression_updates proto config)
set(TERN_LAYERS_client_daemon base compression_updates proto config learning proto_net client)
set(TERN_LAYERS_coordinator_journal base base_sqlite)
set(TERN_LAYERS_coordinator base compression_updates proto config coordinator_journal)
set(TERN_LAYERS_coordinator_daemon base compression_updates proto config proto_net coordinator coordinator_journal)
set(TERN_LAYERS_tests_bench base compression_updates proto config learning)
set(TERN_LAYERS_simulations base base_sqlite compression_updates proto config learning proto_net client client_daemon coordinator tests_bench)

# For tests/faults/planted alone; see base/planted_bug.h.
set(TERN_PLANT_BUG "" CACHE STRING "A bug on purpose: wire, journal or residual")
if(TERN_PLANT_BUG)
  string(SUBSTRING "${TERN_PLANT_BUG}" 0 1 first)
  string(SUBSTRING "${TERN_PLANT_BUG}" 1 -1 rest)
  string(TOUPPER "${first}" first)
  set(TERN_PLANTED_BUG "TERN_PLANTED_BUG=k${first}${rest}")
endif()

add_library(tern_options INTERFACE)
# -ffp-contract=off: a fused a*b+c would change the bytes of a frame between CPU levels.
target_compile_options(tern_options INTERFACE -ffp-contract=off
  # -Wno-restrict: g++ 12 warns of std::string + in vain (GCC bug 105651); a designated initializer that leaves out members
  # with defaults is meant that way.
  $<BUILD_INTERFACE:-Wall -Wextra -Wshadow -Wnon-virtual-dtor $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict
  -Wno-missing-field-initializers>>
  $<$<BOOL:${TERN_WERROR}>:-Werror>)
if(TERN_SANITIZE)
  target_compile_options(tern_options INTERFACE -fsanitize=${TERN_SANITIZE} -fno-omit-frame-pointer
    -fno-sanitize-recover=all)
  target_link_options(tern_options INTERFACE -fsanitize=${TERN_SANITIZE})
endif()
# UBSan's own checks of pointers double the time to compile. ASan looks at pointers anyway; what it doesn't see, above all
# alignment, matters where bytes are read as something else, so the folders that do keep them. A library of its own: its options
# come after those of tern_options.
add_library(tern_options_elsewhere INTERFACE)
if(TERN_SANITIZE MATCHES undefined)
  target_compile_options(tern_options_elsewhere INTERFACE -fno-sanitize=null,vptr,alignment,object-size)
endif()

# tern_library(FOLDER SRCS file... [DEPS folder...] [LIBS target...] [PRIVATE_LIBS target...])
#   builds the static library tern::FOLDER with "/" as "_"
function(tern_library folder)
  cmake_parse_arguments(ARG "" "" "SRCS;DEPS;LIBS;PRIVATE_LIBS" ${ARGN})
  string(REPLACE "/" "_" name ${folder})
  if(NOT DEFINED TERN_LAYERS_${name})
    message(FATAL_ERROR "layer rule: ${folder} has no row in cmake/TernTargets.cmake")
  endif()
  add_library(tern_${name} STATIC ${ARG_SRCS})
  add_library(tern::${name} ALIAS tern_${name})
  set_target_properties(tern_${name} PROPERTIES EXPORT_NAME ${name} OUTPUT_NAME tern_${name})
  target_include_directories(tern_${name} PUBLIC
    $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}> $<INSTALL_INTERFACE:include/tern>)
  target_compile_features(tern_${name} PUBLIC cxx_std_20)
  target_link_libraries(tern_${name} PRIVATE $<BUILD_INTERFACE:tern_options> ${ARG_PRIVATE_LIBS} PUBLIC ${ARG_LIBS})
  if(NOT folder MATCHES "^(base|compression|proto)")
    target_link_libraries(tern_${name} PRIVATE $<BUILD_INTERFACE:tern_options_elsewhere>)
  endif()
  foreach(dep IN LISTS ARG_DEPS)
    string(REPLACE "/" "_" dep_name ${dep})
    if(NOT dep_name IN_LIST TERN_LAYERS_${name})
      message(FATAL_ERROR "layer rule: ${folder} may not use ${dep}; it may use: ${TERN_LAYERS_${name}}")
    endif()
    target_link_libraries(tern_${name} PUBLIC tern_${dep_name})
  endforeach()
endfunction()

# tern_use_torch(TARGET): LibTorch and its precompiled header, built once and shared by every target that asks for it.
function(tern_use_torch target)
  target_link_libraries(${target} PUBLIC ${TORCH_LIBRARIES})
  target_include_directories(${target} SYSTEM PUBLIC ${TORCH_INCLUDE_DIRS})
  set_target_properties(${target} PROPERTIES JOB_POOL_COMPILE torch_pool)
  if(NOT TARGET tern_torch_header)
    file(CONFIGURE OUTPUT ${PROJECT_BINARY_DIR}/torch_header.cc CONTENT "// only carries the precompiled torch header\n")
    add_library(tern_torch_header OBJECT ${PROJECT_BINARY_DIR}/torch_header.cc)
    target_include_directories(tern_torch_header SYSTEM PUBLIC ${TORCH_INCLUDE_DIRS})
    target_link_libraries(tern_torch_header PRIVATE tern_options ${TORCH_LIBRARIES})
    target_precompile_headers(tern_torch_header PRIVATE <torch/torch.h>)
    set_target_properties(tern_torch_header PROPERTIES JOB_POOL_COMPILE torch_pool)
  endif()
  target_precompile_headers(${target} REUSE_FROM tern_torch_header)
endfunction()

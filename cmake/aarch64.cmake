# Toolchain: builds for 64-bit ARM on another machine, against the sysroot that tests/portability/run makes of Debian's arm64
# packages; programs run under qemu-user. TERN_SYSROOT names the sysroot.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_LIBRARY_ARCHITECTURE aarch64-linux-gnu)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
# g++ 12 has ARM's half precision under this name alone in C++; the type of the standard name comes with g++ 13.
set(CMAKE_CXX_FLAGS_INIT "-D_Float16=__fp16")
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES TERN_SYSROOT)
if(NOT EXISTS "${TERN_SYSROOT}/usr/include/aarch64-linux-gnu")
  message(FATAL_ERROR "TERN_SYSROOT is no sysroot of arm64: '${TERN_SYSROOT}'; tests/portability/run makes one")
endif()
set(CMAKE_SYSROOT ${TERN_SYSROOT})
set(CMAKE_FIND_ROOT_PATH ${TERN_SYSROOT})
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)
# pkg-config takes the search path and what it prints from the sysroot, too.
set(ENV{PKG_CONFIG_DIR} "")
set(ENV{PKG_CONFIG_LIBDIR} "${TERN_SYSROOT}/usr/lib/aarch64-linux-gnu/pkgconfig:${TERN_SYSROOT}/usr/share/pkgconfig")
set(ENV{PKG_CONFIG_SYSROOT_DIR} "${TERN_SYSROOT}")
find_program(TERN_QEMU NAMES qemu-aarch64-static qemu-aarch64 REQUIRED)
set(CMAKE_CROSSCOMPILING_EMULATOR ${TERN_QEMU} -L ${TERN_SYSROOT})

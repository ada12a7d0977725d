#include "compression/updates/kernels/kernels.h"

#define TERN_KERNEL_TABLE kAvx512Kernels
#include "compression/updates/kernels/kernels-inl.h"
